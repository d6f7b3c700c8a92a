"""Looking up what was found, and what the policy would say: an investigation by its id, a verdict without a proposal. Nothing is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.archive import kept_text
from mcp_server.arguments import Arguments
from mcp_server.diagnosis import Detail, DiagnosisOutput, diagnosis_page
from mcp_server.errors import ToolRefusal
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec
from mcp_server.tools.remediation import EXECUTOR_RULES, ChangeArguments, ProposalOutput, asked_change, document_answer

InvestigationId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


class InvestigationGetArguments(Arguments):
    id: InvestigationId
    detail: Detail = "summary"


async def _investigation_get(context: ToolContext, arguments: InvestigationGetArguments) -> Answer:
    if context.ports is None or context.ports.kept is None:
        raise ToolRefusal("no investigations are kept here; call investigate")
    kept = context.ports.kept(arguments.id)
    found = kept.found
    if found is not None:
        return Answer(lambda: diagnosis_page(found, arguments.detail))
    line = kept_text(kept, context.clock())
    empty = {"healthy": False, "causes": [], "not_proven": [], "cannot_see": [], "cut": line}
    return Answer(lambda: Page((line,), {**empty, "scope": "", "now": context.clock().isoformat(), "advisories": [], "ruled_out": []}))


async def _policy_explain(context: ToolContext, arguments: ChangeArguments) -> Answer:
    if context.ports is None or context.ports.weigh is None:
        raise ToolRefusal("nothing can be weighed for this caller: no gate is attached")
    return document_answer(await context.ports.weigh(asked_change("policy_explain", arguments), context.caller), "summary")


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="investigation_get",
        title="Look up an investigation",
        group="investigation",
        description="An investigation of yours by its id: what it found, or how far it is.",
        arguments=InvestigationGetArguments,
        output=DiagnosisOutput,
        access=Access.READ,
        rbac=(),
        run=_investigation_get,
    ),
    ToolSpec(
        name="policy_explain",
        title="Explain what the policy would say",
        # It sends dry runs, which are writes to RBAC: whoever does without remediation has no account that may send them.
        group="remediation",
        beside="investigation",
        description="Verdict, rules, approvals and the facts that would change it, for a change that nobody has proposed. Stores nothing.",
        arguments=ChangeArguments,
        output=ProposalOutput,
        # It tries the change as a dry run, as a proposal does, so it takes what proposing takes.
        access=Access.PROPOSE,
        rbac=EXECUTOR_RULES,
        run=_policy_explain,
    ),
)
