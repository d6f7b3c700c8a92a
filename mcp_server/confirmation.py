"""Asking the user of a client whether to go ahead, before an approved change is executed: their consent, recorded, and no approval.

Any client can forge it, so it opens nothing: the gate wants its approvals all the same. It can only hold back. Whoever says no, says
nothing in time, or cannot be asked where that is required, executes nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import anyio
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import ClientCapabilities, ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from guardrails.redact import present
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Ports, ToolContext

# "declared": whoever can be asked is asked. "required": and nobody else executes anything over MCP.
Confirmation = Literal["declared", "required"]
KEY = "go_ahead"
ANSWER_SECONDS = 300.0
MESSAGE_LIMIT = 800
UNDECIDED = ("proposed", "validating")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        KEY: {"type": "boolean", "title": "Go ahead", "description": "Execute it now. This is your wish and no approval.", "default": False}
    },
    "required": [KEY],
}


async def confirm(
    context: Context[Any, Any], held: ToolContext, proposal_id: str, digest: str, wanted: Confirmation
) -> InputRequiredResult | None:
    """None when the gate may be asked to execute; otherwise the question, which the client answers by calling again.

    Raises ToolRefusal when the user does not want it, did not answer, or cannot be asked where that is required.
    """
    asks = can_ask(context.client_capabilities)
    if not asks and wanted == "declared":
        return None
    ports = held.ports
    if ports is None:
        raise ToolRefusal("this caller can neither propose nor execute: no gate is attached")
    document = await ports.status(proposal_id, held.caller)
    # Waiting again with all its approvals, after a refusal that passes, it is the gate's to decide, as an approved one is.
    if document["state"] in UNDECIDED or (document["state"] == "pending" and document.get("missing")):
        raise ToolRefusal(f"{proposal_id} is {document['state']} and needs approval first. {document.get('next_step', '')}".strip())
    if document["state"] not in ("approved", "pending") or document["digest"] != digest.removeprefix("sha256:"):
        return None
    if not asks:
        await _note(ports, held, proposal_id, digest, "cannot be asked")
        raise ToolRefusal(
            f"{proposal_id} is not executed: this server executes only what the user of the client confirmed, and this client cannot ask "
            f"them. Use one that supports elicitation, or: smokejumper execute {proposal_id}"
        )
    message = question(document)
    if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        answer = await _ask_now(context, message)
    else:
        state = _state(proposal_id, digest, message)
        given = (context.input_responses or {}).get(KEY)
        if context.request_state != state or not isinstance(given, ElicitResult):
            asked = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=SCHEMA))
            return InputRequiredResult(input_requests={KEY: asked}, request_state=state)
        answer = _said(given)
    await _note(ports, held, proposal_id, digest, answer)
    if answer != "go ahead":
        raise ToolRefusal(f"{proposal_id} is not executed: its user answered {answer!r}. It stays as it is; do not retry on your own")
    return None


def can_ask(declared: ClientCapabilities | None) -> bool:
    """Whether a client shows forms to its user. One that names no mode shows forms."""
    elicitation = declared.elicitation if declared else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def question(document: dict[str, Any]) -> str:
    """What the user is asked about a proposal. It holds words of the cluster, so it is made fit to show, on lines of our own."""
    approvals = [item["approver"] for item in document.get("approvals", ()) if item.get("verdict") == "approve"]
    lines = (
        f"Execute {document['id']} in {document.get('cluster', '')} now?",
        str(document.get("summary", "")),
        f"Requested by {document.get('requester', '')}; approved by {', '.join(approvals) or 'policy alone'}.",
        f"Digest {document['digest'][:16]}…",
    )
    return "\n".join(present(line, MESSAGE_LIMIT // 3).replace("\n", " ") for line in lines)


async def _ask_now(context: Context[Any, Any], message: str) -> str:
    """The older era's way: ask within the call. No way back to the client, its error and its silence are answers too."""
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            return _said(await context.session.elicit_form(message, SCHEMA, related_request_id=context.request_id))
    except TimeoutError:
        return "nothing in time"
    except MCPError as error:
        return f"an error ({error.code})"


def _said(answer: ElicitResult) -> str:
    if answer.action != "accept":
        return answer.action
    return "go ahead" if (answer.content or {}).get(KEY) is True else "no"


def _state(proposal_id: str, digest: str, message: str) -> str:
    """What the sealed state carries between the rounds: which change was asked about, and in which words."""
    return hashlib.sha256("\0".join((proposal_id, digest, message)).encode()).hexdigest()


async def _note(ports: Ports, held: ToolContext, proposal_id: str, digest: str, answer: str) -> None:
    if ports.answered is not None:
        await ports.answered(proposal_id, digest.removeprefix("sha256:"), answer, held.caller)
