"""One write to the Kubernetes API as data: what is approved (the template) and what is sent (bound to the moment).

A template holds everything a person agrees to and is what a digest covers. Binding adds the three things that cannot be known
before: the receipt, the fresh resourceVersion and the uid that the API server must find. Only merge patches, deletes and evictions
exist: each can be read as a difference, and each carries its precondition in the same request.
"""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

RECEIPT_ANNOTATION = "smokejumper.dev/proposal"
FIELD_MANAGER = "smokejumper"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON: Final = "application/json"
_SUBRESOURCE = re.compile(r"/api/v1/namespaces/[^/]+/pods/[^/]+/(eviction|resize)")


class ApiRequest(BaseModel):
    """The template of one write. `path` is an absolute API path; `body` is the merge patch, the DeleteOptions or the Eviction.

    `uid` is that of the object it is about when that is not the proposal's target: so the digest names every object.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Literal["PATCH", "DELETE", "POST"]
    path: str
    content_type: Literal["application/merge-patch+json", "application/json"]
    body: dict[str, Any]
    uid: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent_uid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        if self.uid is None:
            document.pop("uid", None)
        return document

    @property
    def removes(self) -> bool:
        """Whether it makes an object go: then an object that is gone is the effect."""
        return self.method != "PATCH"

    @property
    def subresource(self) -> str:
        """The subresource that it addresses, empty for the object itself."""
        found = _SUBRESOURCE.fullmatch(self.path)
        return found[1] if found else ""

    @property
    def object_path(self) -> str:
        """The path of the object that it is about."""
        return self.path.removesuffix(f"/{self.subresource}") if self.subresource else self.path

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

    @property
    def object_path(self) -> str:
        return self.template.object_path

    def query(self, *, dry_run: bool) -> dict[str, str]:
        """Query parameters: the field manager and strict validation of patches, `dryRun=All` when nothing may persist."""
        parameters = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} if self.method == "PATCH" else {}
        return parameters | ({"dryRun": "All"} if dry_run else {})

    def body(self) -> dict[str, Any]:
        """The body to send. A patch carries uid, resourceVersion and receipt in metadata; a delete carries preconditions.

        The API server answers 409 when the uid or the resourceVersion is another one. An eviction names the uid alone: the API server
        counts the disruption against the budget before it deletes, so a stale resourceVersion would spend the budget on nothing
        (kubernetes/kubernetes pkg/registry/core/pod/storage/eviction.go, checkAndDecrement before Delete).
        """
        body = copy.deepcopy(self.template.body)
        version = {"resourceVersion": self.resource_version} if self.resource_version else {}
        if self.method == "POST":
            body["deleteOptions"] = {"preconditions": {"uid": self.uid}}
            return body
        if self.method == "DELETE":
            body["preconditions"] = {"uid": self.uid, **version}
            return body
        metadata = body.setdefault("metadata", {})
        metadata |= {"uid": self.uid, **version}
        metadata.setdefault("annotations", {})[RECEIPT_ANNOTATION] = self.receipt
        return body
