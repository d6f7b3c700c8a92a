"""`smokejumper why`: why a model is slow or a job waits or failed, for people who know its name and not Kubernetes."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncall.commands.diagnosis import Context, Loki, Prometheus, Recording
from oncall.invocation import Invocation

if TYPE_CHECKING:
    from agent.investigation import Conclusion
    from cluster.facts.pod import Pod
    from cluster.reading import Reader
    from cluster.reference import ObjectRef
    from oncall.settings import Settings
    from runbooks.candidate import Candidate
    from runbooks.finding import Cause

# What people call a job or a model, the outermost first: a name that several of them carry means the outermost.
KINDS = (
    *("InferenceService", "RayService", "RayJob", "TrainJob", "PyTorchJob", "JobSet", "LeaderWorkerSet"),
    *("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Pod"),
)
# In somebody's namespace, and still not theirs to change.
ADMINISTERED = frozenset({"ResourceQuota", "LimitRange", "NetworkPolicy", "Role", "RoleBinding", "LocalQueue", "ServiceAccount"})
CAUSES_SHOWN = 3
EVIDENCE_SHOWN = 2
QUOTE_SHOWN = 200
# Who says what is quoted, by the source of the evidence.
SAYS = {
    "field": "the state of {}",
    "event": "an event of {}",
    "log": "the log of {}",
    "metric": "a measurement of {}",
    "alert": "an alert about {}",
    "absence": "the lack of {}",
}
# An amount of a resource, as causes and quotas write it: `8 nvidia.com/gpu`, `requests.nvidia.com/gpu=8`.
_AMOUNT = re.compile(
    r"\b(?P<n>\d+(?:\.\d+)?) (?P<of>[a-z0-9.-]+/[\w.-]*\w)|\b(?:requests|limits)\.(?P<of2>[a-z0-9.-]+/[\w.-]*\w)=(?P<n2>\d+)"
)
GAPS_SHOWN = 3


class Complaint(StrEnum):
    """What people see."""

    PENDING = "pending"
    SLOW = "slow"
    FAILED = "failed"


QUESTIONS = {
    Complaint.PENDING: "Why does {name} not start?",
    Complaint.SLOW: "Why is {name} slow?",
    Complaint.FAILED: "Why did {name} fail?",
}


def why(
    context: typer.Context,
    complaint: Annotated[Complaint, typer.Argument(help="What you see.")],
    name: Annotated[str, typer.Argument(metavar="JOB_OR_MODEL", help="Its name, as you gave it.")],
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Your namespace; default: that of the kubeconfig's context.")
    ] = None,
    cluster_context: Context = None,
    recording: Recording = None,
    prometheus: Prometheus = None,
    loki: Loki = None,
    now: Annotated[str | None, typer.Option(metavar="RFC3339", help="The clock of a recording.")] = None,
) -> None:
    """Say why a job waits, a model is slow or something failed, and who can change it. It sees what your permissions show."""
    import asyncio

    invocation: Invocation = context.obj.with_context(cluster_context).with_prometheus(prometheus).with_loki(loki)
    for line in asyncio.run(_why(invocation.settings, complaint, name, namespace, recording, now)):
        typer.echo(line)


async def _why(
    settings: Settings, complaint: Complaint, name: str, namespace: str | None, recording: Path | None, now: str | None
) -> list[str]:
    from cluster.reference import Scope
    from oncall.asking import moment
    from oncall.assembly import investigate, open_reader
    from oncall.screen import following

    with following(f"looking at {name}") as progress:
        async with open_reader(settings, recording, moment(now)) as reader:
            namespace = namespace or _usual_namespace(settings, reader)
            subject, pods = await _find(reader, name, namespace)
            scope = Scope(reader.cluster, (namespace,), subject)
            concluded = await investigate(settings, reader, scope, QUESTIONS[complaint].format(name=name), progress)
    return told(subject, pods, concluded, recording)


def _usual_namespace(settings: Settings, reader: Reader) -> str:
    """Where somebody works who names no namespace: in that of the kubeconfig's context, or in the only one that was recorded."""
    from cluster.recorded import RecordedReader
    from oncall.assembly import fleet
    from oncall.errors import UsageError

    known = reader.namespaces if isinstance(reader, RecordedReader) else (fleet(settings).target(settings.context).namespace,)
    if len(known) == 1 and known[0]:
        return known[0]
    raise UsageError("in which namespace is it? Add -n NAMESPACE: the one that you were given on this cluster.")


async def _find(reader: Reader, name: str, namespace: str) -> tuple[ObjectRef, tuple[Pod, ...]]:
    """What is called so, and its pods. Raises UsageError with the nearest names, and with what could not be listed."""
    from mcp_server.arguments import nearest
    from mcp_server.probe import Named, find_named, unknown_namespaces
    from mcp_server.registry import Caller, ToolContext
    from oncall.errors import UsageError
    from oncall.render import gaps

    context = ToolContext(reader, Caller("smokejumper", channel="cli"), reader.now)
    absent = await unknown_namespaces(context, (namespace,))
    if absent:
        raise UsageError(absent)
    found = await find_named(context, namespace, name, KINDS)
    if isinstance(found, Named):
        return found.subject, found.pods
    blind = gaps(found.missing)
    if not blind:
        raise UsageError(f"nothing in {namespace} is called {name!r}; {nearest(name, found.names, 'names')}.")
    seen = f"; {nearest(name, found.names, 'names')}" if found.names else ""
    unseen = "".join(f"\ncould not look at: {line}" for line in blind[:GAPS_SHOWN])
    more = f"\ncould not look at: {len(blind) - GAPS_SHOWN} more" if len(blind) > GAPS_SHOWN else ""
    raise UsageError(f"nothing that can be seen in {namespace} is called {name!r}{seen}.{unseen}{more}")


def told(subject: ObjectRef, pods: tuple[Pod, ...], concluded: Conclusion, recording: Path | None = None) -> list[str]:
    """The answer, in the asker's terms: how it stands, why, how that is known, who can change it, what helps."""
    from oncall.render import gaps

    diagnosis = concluded.diagnosis
    lines = [f"{subject.name} ({subject.kind} in {subject.namespace}): {standing(pods)}"]
    for cause, candidates in list(zip(diagnosis.causes, concluded.remedies, strict=False))[:CAUSES_SHOWN]:
        lines += ["", *_cause(cause, candidates, subject, recording)]
    if len(diagnosis.causes) > CAUSES_SHOWN:
        lines.append(f"… {len(diagnosis.causes) - CAUSES_SHOWN} more causes; smokejumper diagnose shows them")
    if not diagnosis.causes:
        healthy = "Nothing that can be seen is wrong with it." if diagnosis.healthy else "Why is not proven."
        lines += ["", healthy, *(f"  suspected: {item.text} Lacks: {item.lacks}." for item in diagnosis.not_proven[:CAUSES_SHOWN])]
    blind = gaps(diagnosis.cannot_see)
    lines += [f"could not look at: {line}" for line in blind[:GAPS_SHOWN]]
    if len(blind) > GAPS_SHOWN:
        lines.append(f"could not look at: {len(blind) - GAPS_SHOWN} more")
    return lines


def _cause(cause: Cause, candidates: tuple[Candidate, ...], subject: ObjectRef, recording: Path | None) -> list[str]:
    from mcp_server.runbooks import asker_advice
    from oncall.render import propose_command

    lines = [f"{'Because' if cause.certainty.word == 'proven' else 'Probably because'}: {cause.title} ({cause.certainty.word})"]
    lines.append(f"  {in_plain_words(cause.explanation, subject)}")
    lines += [f"  {SAYS[item.source.value].format(item.object)} says: {shortened(item.quote)}" for item in cause.evidence[:EVIDENCE_SHOWN]]
    lines.append(f"  who can change it: {responsible(cause.object, subject)}")
    advice = asker_advice(cause.page)
    if advice:
        lines.append(f"  good to know: {advice}")
    if cause.impact:
        lines.append(f"  what it costs: {cause.impact.text}")
    if cause.handover:
        lines.append(f"  who acts on it: {cause.handover}")
    if candidates:
        lines.append(f"  what helps: {candidates[0].why}")
        lines.append(f"  to ask for it: {propose_command(candidates[0], recording)}")
    return lines


def in_plain_words(text: str, subject: ObjectRef) -> str:
    """A cause's words with the asker's own name for what was asked about, and devices as people call them: `8 GPUs`."""
    from guardrails.accelerator import vendor_of

    def amount(match: re.Match[str]) -> str:
        resource, count = match["of"] or match["of2"], match["n"] or match["n2"]
        vendor = vendor_of(resource)
        # A slice or a share is not what people call a GPU.
        if vendor is None or resource not in vendor.resources or resource in vendor.parts or resource.endswith(".shared"):
            return match[0]
        return f"{count} {vendor.device}{'' if count == '1' else 's'}"

    # Whole: neither the end of `RayJob/ml/fit` nor the beginning of `Job/ml/fit-2`; a sentence may end after it.
    own = re.compile(rf"(?<![\w.-]){re.escape(str(subject))}(?!-|\w|\.\w)")
    return _AMOUNT.sub(amount, own.sub(subject.name, text))


def shortened(quote: str) -> str:
    return quote if len(quote) <= QUOTE_SHOWN else f"{quote[:QUOTE_SHOWN].rstrip()} …"


def responsible(at_fault: ObjectRef, subject: ObjectRef) -> str:
    """Who to talk to: whoever works in the namespace, its administrators, another team, or whoever runs the cluster."""
    if at_fault.namespace is None:
        return f"whoever runs the cluster ({at_fault})"
    if at_fault.namespace != subject.namespace:
        return f"the team of namespace {at_fault.namespace} ({at_fault})"
    if at_fault.kind in ADMINISTERED:
        return f"whoever administers namespace {at_fault.namespace} ({at_fault})"
    return f"you, in namespace {at_fault.namespace} ({at_fault})"


def standing(pods: tuple[Pod, ...]) -> str:
    """How its pods stand, most first."""
    if not pods:
        return "it has no pods."
    counts = Counter(_stands(pod) for pod in pods)
    return "; ".join(f"{count} of {len(pods)} pods {word}" for word, count in counts.most_common()) + "."


def _stands(pod: Pod) -> str:
    waiting = {item.state.waiting.reason for item in pod.all_statuses if item.state and item.state.waiting}
    match pod.status.phase:
        case "Succeeded":
            return "finished"
        case "Failed":
            return "failed"
        case "Pending" if pod.spec.scheduling_gates:
            return "held back, waiting to be admitted"
        case "Pending" if not pod.spec.node_name:
            return "waiting for a machine"
        case "Pending":
            return "starting"
    if "CrashLoopBackOff" in waiting:
        return "crashing again and again"
    return "working" if pod.ready else "running and not ready"
