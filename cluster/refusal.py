"""What an API server's "no" means: the status document it sends, and the `Missing` a reader returns for it.

Pure. The next step names the permission in RBAC's own words, because "forbidden" alone sends people looking in the wrong place.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from cluster.reading import Missing, Why
from guardrails.redact import present

DETAIL_LIMIT = 300


class StatusMetadata(Struct, frozen=True):
    continue_: str | None = msgspec.field(default=None, name="continue")


class StatusCause(Struct, frozen=True):
    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Struct, frozen=True, rename="camel"):
    causes: tuple[StatusCause, ...] | None = None
    retry_after_seconds: int | None = None


class Status(Struct, frozen=True):
    """metav1.Status, as far as it is read. `metadata.continue_` carries a fresh token beside a 410 of a list."""

    kind: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0
    metadata: StatusMetadata = StatusMetadata()
    details: StatusDetails | None = None


_STATUS = msgspec.json.Decoder(Status)


def decode_status(body: bytes) -> Status:
    """The Status in a response body; proxies and kubelets answer in plain text, which becomes the message."""
    try:
        status = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status(message=present(body.decode("utf-8", "replace").strip(), DETAIL_LIMIT))
    return status if status.kind == "Status" else Status()


def explain(status_code: int, body: bytes, *, what: str, rule: str, kind: str | None = None, namespace: str | None = None) -> Missing:
    """The `Missing` for a response that is no success. `rule` is the permission that was needed: "list on pods in namespace ml"."""
    said = present(decode_status(body).message, DETAIL_LIMIT)
    why, next_step = _meaning(status_code, rule)
    return Missing(what, why, said or f"HTTP {status_code}", next_step, kind, namespace)


def _meaning(status_code: int, rule: str) -> tuple[Why, str]:
    match status_code:
        case 401:
            return Why.UNAUTHENTICATED, "The API server does not accept the credential. Log in to the cluster again."
        case 403:
            return Why.FORBIDDEN, f"Grant the reading account {rule} (an RBAC Role or ClusterRole and its binding)."
        case 404:
            return Why.NOT_FOUND, ""
        case 408 | 504:
            return Why.TIMEOUT, "The API server gave up. Try a narrower scope, or again later."
        case 429:
            return Why.TIMEOUT, "The API server is overloaded and asked us to wait longer than we may. Try again later."
        case 410:
            return Why.TRUNCATED, "The list changed faster than it could be read. Try a narrower scope."
    if status_code >= 500:
        return Why.UNREACHABLE, "The API server failed. Look at its own health (/readyz?verbose) and try again."
    return Why.MALFORMED, "The API server did not understand the request; its version may be too old."
