"""Prompts, resources of single objects and completions: what a person picks in a client. Each holds fetched data, no to-do list.

They answer by calling tools, so they know nothing of their own, show nothing that a tool would not, and change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from cluster.errors import ClusterError
from cluster.facts.node import Namespace, Node
from cluster.kinds import BY_NAME
from guardrails.errors import GuardrailsError
from guardrails.redact import present
from mcp_server.archive import Archive, evidence_text, kept_text
from mcp_server.errors import ToolRefusal
from mcp_server.probe import find_kind, list_kind
from mcp_server.registry import Access, ToolContext, Toolset
from mcp_server.result import text_of

ContextFactory = Callable[[], AbstractAsyncContextManager[ToolContext]]

EXPLAIN = "Explain this to the person on call: the cause, the evidence ids, what is not proven, the safest fix."
REVIEW = "Explain to whoever has to approve this: what would change, what it puts at stake, what undoes it, and what you would ask first."
SLOW = "Explain to whoever owns this model where its time goes, with the evidence ids, what is not measured, and the safest change."
POSTMORTEM = (
    "Draft a postmortem without blame: summary, impact, timeline (only times that stand above), cause with evidence ids, what is not "
    "proven, what helped or hindered, and follow-ups with an owner to be named."
)
OBJECT_URI = "k8s://{namespace}/{kind}/{name}"
PROPOSAL_URI = "smokejumper://proposals/{proposal_id}"
INVESTIGATION_URI = "smokejumper://investigations/{investigation_id}"
EVIDENCE_URI = "smokejumper://evidence/{evidence_id}"
# The protocol allows a hundred.
COMPLETIONS_LIMIT = 100
REFUSAL_LIMIT = 2_000
log = logging.getLogger("smokejumper")
T = TypeVar("T")


class Answers:
    """Tools' answers as text, under a deadline, with every refusal as a protocol error in words and nothing of a crash."""

    def __init__(self, toolset: Toolset, context_factory: ContextFactory, deadline_seconds: float) -> None:
        self._toolset = toolset
        self._context_factory = context_factory
        self._deadline_seconds = deadline_seconds

    def has(self, *tools: str) -> bool:
        """Whether all these tools are offered."""
        return all(tool in self._toolset for tool in tools)

    async def text(self, tool: str, /, **arguments: Any) -> str:
        """What a tool that only reads says: the scope to connect with is all that was asked for here."""
        if self._toolset.spec(tool).access is not Access.READ:
            raise ValueError(f"{tool} does more than read")

        async def ask(context: ToolContext) -> str:
            answer = await self._toolset.call(tool, {name: value for name, value in arguments.items() if value}, context)
            return text_of(answer.render())

        return await self.of(tool, ask)

    async def of(self, what: str, ask: Callable[[ToolContext], Awaitable[T]]) -> T:
        """What `ask` finds in an open context. Raises MCPError."""
        try:
            with anyio.fail_after(self._deadline_seconds):
                async with self._context_factory() as context:
                    return await ask(context)
        except TimeoutError as error:
            raise MCPError(INTERNAL_ERROR, f"{what} took longer than {self._deadline_seconds:g} s") from error
        except (ToolRefusal, ClusterError, GuardrailsError) as error:
            raise MCPError(INVALID_PARAMS, present(str(error), REFUSAL_LIMIT)) from error
        except MCPError:
            raise
        except Exception as error:
            # The message may hold anything; whoever runs the server finds it here.
            log.exception("%s failed", what)
            raise MCPError(INTERNAL_ERROR, f"{what} failed inside Smokejumper; its log on stderr has the details") from error


def add_prompts(server: MCPServer, answers: Answers) -> None:
    """Register the prompts whose tools are offered. Each argument is a word; an empty one is left out."""

    def prompt(name: str, title: str, *tools: str) -> Callable[[Callable[..., Awaitable[str]]], None]:
        def add(answer: Callable[..., Awaitable[str]]) -> None:
            if answers.has(*tools):
                server.prompt(name=name, title=title)(answer)

        return add

    @prompt("triage_incident", "Triage an incident", "investigate")
    async def triage_incident(question: str, namespace: str = "") -> str:
        """The diagnosis of an incident, ready to discuss: causes, evidence, what is open and what could be proposed."""
        return f"{await answers.text('investigate', question=question, namespace=namespace)}\n\n{EXPLAIN}"

    @prompt("explain_pending", "Explain a pending pod", "scheduling_explain")
    async def explain_pending(namespace: str, name: str) -> str:
        """Why a pod has no node, with the nodes grouped by what keeps it off."""
        return f"{await answers.text('scheduling_explain', namespace=namespace, name=name)}\n\n{EXPLAIN}"

    @prompt("gpu_node_triage", "Triage a GPU node", "gpu_inventory", "events_list")
    async def gpu_node_triage(node: str) -> str:
        """A node's accelerators with holders and health, and its warning events."""
        devices = await answers.text("gpu_inventory", node=node)
        events = await answers.text("events_list", involved_kind="Node", involved_name=node)
        return f"{devices}\n\n{events}\n\n{EXPLAIN}"

    @prompt("inference_latency", "Explain a slow model", "inference_diagnose")
    async def inference_latency(namespace: str, name: str) -> str:
        """Where the time of a model server's requests goes: queue, cache, load, replicas, devices."""
        return f"{await answers.text('inference_diagnose', namespace=namespace, name=name)}\n\n{SLOW}"

    @prompt("training_failure", "Explain a failed training job", "training_diagnose")
    async def training_failure(namespace: str, name: str) -> str:
        """What held a training job back or ended it, from the first rank that failed."""
        return f"{await answers.text('training_diagnose', namespace=namespace, name=name)}\n\n{EXPLAIN}"

    @prompt("review_remediation", "Review a proposed remedy", "remediation_status")
    async def review_remediation(proposal_id: str) -> str:
        """A proposal as its approvers see it."""
        return f"{await answers.text('remediation_status', proposal_id=proposal_id)}\n\n{REVIEW}"

    @prompt("postmortem", "Draft a postmortem", "investigate", "changes_list")
    async def postmortem(question: str, namespace: str = "") -> str:
        """The diagnosis of an incident and what was changed in the day before, to write down what happened and what to do better."""
        found = await answers.text("investigate", question=question, namespace=namespace)
        changes = await answers.text("changes_list", namespace=namespace)
        return f"{found}\n\n{changes}\n\n{POSTMORTEM}"


def add_resources(server: MCPServer, answers: Answers, archive: Archive) -> None:
    """Register the resources that are found by name."""

    @server.resource(OBJECT_URI, name="object", title="An object of the cluster", mime_type="text/plain")
    async def read_object(namespace: str, kind: str, name: str) -> str:
        """One object in short, redacted. For a kind without namespaces, `namespace` is `-`."""
        return await answers.text("resource_get", kind=kind, namespace="" if namespace == "-" else namespace, name=name)

    if answers.has("remediation_status"):

        @server.resource(PROPOSAL_URI, name="proposal", title="A proposed remedy", mime_type="text/plain")
        async def read_proposal(proposal_id: str) -> str:
            """How a proposal stands and what it lacks."""
            return await answers.text("remediation_status", proposal_id=proposal_id)

    @server.resource(INVESTIGATION_URI, name="investigation", title="An investigation", mime_type="text/plain")
    async def read_investigation(investigation_id: str) -> str:
        """What an investigation of yours found, or how far it is."""

        async def find(context: ToolContext) -> str:
            return kept_text(archive.find(investigation_id, context.caller), context.clock())

        return await answers.of("an investigation", find)

    @server.resource(EVIDENCE_URI, name="evidence", title="A piece of evidence", mime_type="text/plain")
    async def read_evidence(evidence_id: str) -> str:
        """One observation of an investigation of yours."""

        async def find(context: ToolContext) -> str:
            return evidence_text(archive.evidence(evidence_id, context.caller))

        return await answers.of("evidence", find)


def add_completion(server: MCPServer, answers: Answers) -> None:
    """Complete namespaces, kinds, nodes and the names of objects, from what the caller may list."""

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        ref: PromptReference | ResourceTemplateReference, argument: CompletionArgument, context: CompletionContext | None
    ) -> Completion | None:
        chosen = dict(context.arguments or {}) if context is not None else {}
        pending = isinstance(ref, PromptReference) and ref.name == "explain_pending"

        async def names(held: ToolContext) -> list[str]:
            match argument.name:
                case "namespace":
                    return await _names(held, Namespace.kind)
                case "node":
                    return await _names(held, Node.kind)
                case "kind":
                    return sorted(BY_NAME)
                case "name":
                    kind = "Pod" if pending else chosen.get("kind", "")
                    return await _names(held, kind, chosen.get("namespace", "")) if kind else []
            return []

        found = [name for name in await answers.of("completion", names) if name.startswith(argument.value)]
        return Completion(values=found[:COMPLETIONS_LIMIT], total=len(found), has_more=len(found) > COMPLETIONS_LIMIT)


async def _names(context: ToolContext, word: str, namespace: str = "") -> list[str]:
    kind = await find_kind(context, word)
    listing = await list_kind(context, kind, (namespace,) if kind.namespaced and namespace not in ("", "-") else ())
    return sorted({fact.name for fact in listing.read.facts})
