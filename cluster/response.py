"""What an API server answered, and the `Missing` a reader returns when that was a "no".

Pure. The next step names the permission in RBAC's own words, because "forbidden" alone sends people looking in the wrong place.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from cluster.discovery import Catalogue
from cluster.kinds import Kind
from cluster.reading import Cost, Missing, Why
from guardrails.redact import present

DETAIL_LIMIT = 300
BODY_READ = 4_096


class Response(Struct, frozen=True):
    """What came back. `status` 0 means no answer; then `why` and `detail` say why, and `sent` whether it may have arrived.

    `retry_after` is the header of an overloaded server, "" without one.
    """

    status: int
    body: bytes = b""
    audit_id: str | None = None
    retry_after: str = ""
    why: Why | None = None
    detail: str = ""
    sent: bool = True
    cost: Cost = Cost()

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


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
        text = " ".join(body[:BODY_READ].decode("utf-8", "replace").split())
        return Status(message="a web page, not an API server, answered" if text.startswith("<") else present(text, DETAIL_LIMIT))
    return status if status.kind == "Status" else Status()


def explain(
    response: Response, what: str, *, verb: str, kind: Kind | None = None, namespace: str | None = None, rule: str | None = None
) -> Missing:
    """The `Missing` for a response that is no success: `what` could not be read by `verb` (get or list).

    `rule` says which permission was needed where it is not plain get and list of the kind.
    """
    name = kind.name if kind else None
    if response.status == 0:
        return Missing(what, response.why or Why.UNREACHABLE, response.detail, _unanswered(response), name, namespace)
    if kind is not None and response.status == 404 and verb == "list":
        return Missing(what, Why.ABSENT_KIND, f"the server has no {kind.plural} in {kind.api_version}", "", name, namespace)
    said = present(decode_status(response.body).message, DETAIL_LIMIT)
    why, next_step = _meaning(response.status, rule or _rule(kind, namespace, what))
    if why is Why.FORBIDDEN and kind is not None and kind.namespaced and namespace is None:
        next_step = f"Ask about one namespace that it may read, or {next_step[0].lower()}{next_step[1:]}"
    if why is Why.NOT_FOUND and kind is None:
        next_step = "Check the address of the API server."
    return Missing(what, why, said or f"HTTP {response.status}", next_step, name, namespace)


def absent(kind: Kind, catalogue: Catalogue) -> Missing:
    """The `Missing` for a kind that discovery says is not served, or not in the version whose fields we know."""
    others = catalogue.other_versions(kind)
    if not others:
        return Missing(kind.plural, Why.ABSENT_KIND, f"no {kind.api_version} here", "", kind.name)
    known = " or ".join((kind.version, *kind.earlier))
    detail = f"{kind.group} is served only as {', '.join(others)}; {known} is read here"
    return Missing(kind.plural, Why.OTHER_VERSION, detail, "Upgrade the cluster, or the operator that serves it.", kind.name)


def malformed(complaints: list[str], what: str, kind: Kind, namespace: str | None) -> tuple[Missing, ...]:
    """One `Missing` for all objects of a list that do not have the shape their kind declares; none for none."""
    if not complaints:
        return ()
    shown = "; ".join(complaints[:3]) + (f"; and {len(complaints) - 3} more" if len(complaints) > 3 else "")
    return (Missing(f"{len(complaints)} of {what}", Why.MALFORMED, present(shown, DETAIL_LIMIT), kind=kind.name, namespace=namespace),)


def rest_of(failure: Missing | None, read: int) -> tuple[Missing, ...]:
    """A list's failure, saying that what was read before it holds."""
    if failure is None:
        return ()
    return (msgspec.structs.replace(failure, what=f"{failure.what} after the first {read}") if read else failure,)


def _rule(kind: Kind | None, namespace: str | None, what: str) -> str:
    if kind is None:
        return f"get on the {what}"
    whole = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return f"get,list on {whole} " + (f"in namespace {namespace}" if namespace else "in the whole cluster")


def _unanswered(response: Response) -> str:
    """What to do when no answer came."""
    if response.why is Why.UNAUTHENTICATED:
        # The credential's own error says it.
        return ""
    if "CERTIFICATE_VERIFY_FAILED" in response.detail:
        return "Check certificate-authority and server of this cluster in the kubeconfig."
    return "Check that the API server is up and can be reached from here."


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
