"""One write to the Kubernetes API as data: what is approved (the template) and what is sent (bound to the moment).

A template holds everything a person agrees to and is what a digest covers. Binding adds the three things that cannot be known
before: the receipt, the fresh resourceVersion and the uid that the API server must find. Only merge patches and deletes exist:
each can be read as a difference, and each carries its precondition in the same request.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict

RECEIPT_ANNOTATION = "smokejumper.dev/proposal"
FIELD_MANAGER = "smokejumper"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON: Final = "application/json"


class ApiRequest(BaseModel):
    """The template of one write. `path` is an absolute API path; `body` is the merge patch, or the DeleteOptions of a delete."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Literal["PATCH", "DELETE"]
    path: str
    content_type: Literal["application/merge-patch+json", "application/json"]
    body: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hex sha256 over the canonical form (RFC 8785) of the template."""
        return hashlib.sha256(b"smokejumper-request-v1\0" + rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()

    def bind(self, *, receipt: str, uid: str, resource_version: str) -> BoundRequest:
        """The request as it will be sent against the object of this uid at this resourceVersion."""
        return BoundRequest(template=self, receipt=receipt, uid=uid, resource_version=resource_version)


class BoundRequest(BaseModel):
    """A template with its precondition and receipt. `body()` is what goes over the wire; the caller adds nothing to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    template: ApiRequest
    receipt: str
    uid: str
    resource_version: str

    @property
    def method(self) -> str:
        return self.template.method

    @property
    def path(self) -> str:
        return self.template.path

    @property
    def content_type(self) -> str:
        return self.template.content_type

    def query(self, *, dry_run: bool) -> dict[str, str]:
        """Query parameters: the field manager and strict validation of patches, `dryRun=All` when nothing may persist."""
        parameters = {} if self.method == "DELETE" else {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return parameters | ({"dryRun": "All"} if dry_run else {})

    def body(self) -> dict[str, Any]:
        """The body to send. A patch carries uid, resourceVersion and receipt in metadata; a delete carries preconditions.

        The API server answers 409 when the uid or the resourceVersion is another one.
        """
        body = copy.deepcopy(self.template.body)
        if self.method == "DELETE":
            body["preconditions"] = {"uid": self.uid, "resourceVersion": self.resource_version}
            return body
        metadata = body.setdefault("metadata", {})
        metadata["uid"] = self.uid
        metadata["resourceVersion"] = self.resource_version
        metadata.setdefault("annotations", {})[RECEIPT_ANNOTATION] = self.receipt
        return body
