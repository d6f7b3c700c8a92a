"""Propose, look up, execute. No tool approves: approval comes from another person over another way, and the gate alone decides.

These tools hold no permission. They check words against the action vocabulary and hand them to the ports; what the ports refuse is
refused, whatever a client claims.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from guardrails.action import BY_NAME, TARGET_RESOURCES, access, check_target, example, parse_action, target
from guardrails.errors import GuardrailsError
from guardrails.redact import redact_object
from mcp_server.arguments import Arguments, Name, Namespace, nearest
from mcp_server.diagnosis import TAIL_BYTES, Detail
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Access, Answer, Page, Ports, RBACRule, ToolContext, ToolSpec
from mcp_server.result import DEFAULT_BYTES, HARD_BYTES, Output, flattened

PARAMETERS_LIMIT = 20
EVIDENCE_LIMIT = 20
REASON_LIMIT = 1_000
# What decides the next step is read first.
FIRST = ("id", "state", "effect", "reason", "needs", "detail", "next_step", "digest", "summary", "missing")
# What people who are asked to approve look at comes next; of a document that is cut, as much of it as there is room for.
NEXT = ("cluster", "requester", "stake", "verdict", "requirement", "approvals", "reversibility", "changes", "requests")
ORDER = {key: place for place, key in enumerate((*FIRST, *NEXT))}
DIGEST = r"^(sha256:)?[0-9a-f]{64}$"


PARAMETERS = "; ".join(
    f"{name}: {', '.join(field for field in word.model_fields if field != 'action')}"
    for name, word in BY_NAME.items()
    if len(word.model_fields) > 1
)


def _one_of(known: tuple[str, ...], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value[:80]!r} is none of the {what}; {nearest(value, known, what)}")
        return value

    return AfterValidator(check)


ActionName = Annotated[str, _one_of(tuple(BY_NAME), "actions"), Field(json_schema_extra={"enum": list(BY_NAME)})]
TargetKind = Annotated[str, _one_of(tuple(TARGET_RESOURCES), "kinds"), Field(json_schema_extra={"enum": list(TARGET_RESOURCES)})]
ProposalId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


class ChangeArguments(Arguments):
    action: ActionName
    kind: TargetKind
    name: Name
    namespace: Namespace | None = None
    parameters: Annotated[
        dict[str, int | str | bool | list[str]],
        Field(description=f"by action: {PARAMETERS}", default_factory=dict, max_length=PARAMETERS_LIMIT),
    ]


class ProposeArguments(ChangeArguments):
    evidence_ids: Annotated[tuple[str, ...], Field(description="ev:… of the diagnosis", max_length=EVIDENCE_LIMIT)] = ()
    reason: Annotated[str, Field(max_length=REASON_LIMIT)] = ""


class StatusArguments(Arguments):
    proposal_id: ProposalId
    detail: Detail = "summary"


class ExecuteArguments(Arguments):
    proposal_id: ProposalId
    digest: Annotated[str, Field(description="of exactly what was approved", pattern=DIGEST)]


class ProposalOutput(Output):
    """What the gate says of one proposal."""

    proposal: dict[str, Any]
    cut: str = ""


async def _propose(context: ToolContext, arguments: ProposeArguments) -> Answer:
    ports = _ports(context)
    change = asked_change("remediation_propose", arguments)
    request = {**change, "evidence_ids": list(arguments.evidence_ids), "reason": arguments.reason}
    return document_answer(await ports.propose(request, context.caller), "summary")


def asked_change(tool: str, arguments: ChangeArguments) -> dict[str, Any]:
    """The action and its target as the ports take them. Raises ToolRefusal for what is not in the vocabulary."""
    try:
        action = parse_action({"action": arguments.action, **arguments.parameters})
        on = target(arguments.kind, arguments.namespace, arguments.name)
        check_target(action, on)
    except GuardrailsError as error:
        raise ToolRefusal(f"{tool}: {error}") from error
    return {
        "action": action.model_dump(mode="json", exclude_none=True),
        "target": {"kind": on.kind, "namespace": on.namespace, "name": on.name},
    }


async def _status(context: ToolContext, arguments: StatusArguments) -> Answer:
    return document_answer(await _ports(context).status(arguments.proposal_id, context.caller), arguments.detail)


async def _execute(context: ToolContext, arguments: ExecuteArguments) -> Answer:
    return document_answer(await _ports(context).execute(arguments.proposal_id, arguments.digest, context.caller), "summary")


def _ports(context: ToolContext) -> Ports:
    if context.ports is None:
        raise ToolRefusal("this caller can neither propose nor execute: no gate is attached")
    return context.ports


def document_answer(document: dict[str, Any], detail: Detail) -> Answer:
    """A document of the gate as an answer: what decides the next step first, within the budget."""
    budget_bytes = DEFAULT_BYTES if detail == "summary" else HARD_BYTES

    def render() -> Page:
        redacted: dict[str, Any] = redact_object(document)
        safe = {key: redacted[key] for key in sorted(redacted, key=lambda key: ORDER.get(key, len(ORDER)))}
        lines, cut = flattened(safe, budget_bytes - TAIL_BYTES)
        more = f"{cut}; remediation_status with detail=full shows more" if cut and detail == "summary" else cut
        # What is cut from the text is cut from the data too, to the same size.
        shown = safe if not cut else _fitting(safe, budget_bytes - TAIL_BYTES)
        return Page(tuple(lines), {"proposal": shown, "cut": cut}, cut=more, budget_bytes=budget_bytes)

    return Answer(render)


def _fitting(document: dict[str, Any], budget_bytes: int) -> dict[str, Any]:
    """What decides the next step, whole, and of what people look at next as much as fits; of a list its first items."""
    shown = {key: document[key] for key in FIRST if key in document}
    left = budget_bytes - _size(shown)
    for key in (key for key in NEXT if key in document):
        value, room = document[key], left - _size(key) - len(": , ")
        if isinstance(value, list):
            sizes = accumulate(_size(item) + len(", ") for item in value)
            value = value[: sum(size <= room for size in sizes)]
        # Of a list of which nothing fits, an empty one would say that there is nothing.
        if _size(value) <= room and (value or not document[key]):
            shown[key] = value
            left = room - _size(value)
    return shown


def _size(value: Any) -> int:
    return len(json.dumps(value, default=str, ensure_ascii=False).encode())


def _executor_rules() -> tuple[RBACRule, ...]:
    """What an account needs to try (server-side dry run) or to do every action: one rule per verb and resource."""
    atoms = {
        (rule.group, f"{rule.resource}/{rule.subresource}" if rule.subresource else rule.resource, rule.verb)
        for word in BY_NAME.values()
        for kind in word.traits.kinds
        for rule in access(example(word.model_fields["action"].default), target(kind, "x", "x"))
    }
    verbs: dict[tuple[str, str], tuple[str, ...]] = {}
    for group, resource, verb in sorted(atoms):
        verbs[(group, resource)] = (*verbs.get((group, resource), ()), verb)
    alike = sorted({(group, needed) for (group, _), needed in verbs.items()})
    return tuple(
        RBACRule(needed, group, tuple(name for (g, name), v in verbs.items() if (g, v) == (group, needed))) for group, needed in alike
    )


EXECUTOR_RULES = _executor_rules()

TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="remediation_propose",
        title="Propose a remediation",
        group="remediation",
        description="Plans one change, tries it as a server-side dry run and submits it for approval. Changes nothing in the cluster.",
        arguments=ProposeArguments,
        output=ProposalOutput,
        access=Access.PROPOSE,
        rbac=EXECUTOR_RULES,
        run=_propose,
    ),
    ToolSpec(
        name="remediation_status",
        title="Look up a proposal",
        group="remediation",
        description="State, digest, dry-run difference, verdict, approvals and outcome of a proposal.",
        arguments=StatusArguments,
        output=ProposalOutput,
        access=Access.READ,
        rbac=(),
        run=_status,
    ),
    ToolSpec(
        name="remediation_execute",
        title="Execute an approved remediation",
        group="remediation",
        description="Executes exactly what was approved, at most once. Refused until another person has approved this digest outside MCP.",
        arguments=ExecuteArguments,
        output=ProposalOutput,
        access=Access.GATED,
        rbac=EXECUTOR_RULES,
        run=_execute,
    ),
)
