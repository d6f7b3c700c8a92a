"""Why device claims are not allocated: how many devices pass each test of their requests. `runbooks.device_request` finds the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from cluster.facts.dra import (
    DeviceClaim,
    DeviceClass,
    DeviceRequest,
    DeviceTaintRule,
    ExactRequest,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME
from cluster.reference import ObjectRef
from cluster.world import World
from mcp_server.arguments import DEFAULT_ROWS, Arguments, Cursor, Limit, Name, Namespace, nearest
from mcp_server.errors import ToolRefusal
from mcp_server.probe import read_kinds
from mcp_server.registry import Access, Answer, Page, ToolContext, ToolSpec, rules_of
from mcp_server.result import FOREIGN_CURSOR, Cell, Order, TableOutput, position, render_table, request
from runbooks.device_binding import bindings, words
from runbooks.device_request import INQUIRY_LIMIT, Budget, Claimed, Explanation, Verdict, explain, pod_claims
from runbooks.device_tally import Funnel, Step, listed
from runbooks.finding import Source, cite
from runbooks.pending import pending_groups

KINDS = (
    Node.kind,
    Pod.kind,
    ResourceClaim.kind,
    ResourceClaimTemplate.kind,
    ResourceSlice.kind,
    DeviceClass.kind,
    DeviceTaintRule.kind,
)
COLUMNS = ("of", "request", "class", "wants", "test or answer", "left", "those that fail have", "best node", "evidence")
REASONS_SHOWN = 4
# The object asked about, what to say of it, and the explanation.
Said = tuple[ObjectRef, list[str], Explanation]
# One row: about what, and a sentence, or one test of a request.
Row = tuple[ObjectRef, str | tuple[Funnel, Step]]
# Of an object among those that wait: its place, which stays its own from page to page.
Place = tuple[str, str]
# Before all rows: a row's place, its number there, and how many rows were shown before the page.
START: Order = ("", "", -1, 0)


class Explained(Struct, frozen=True):
    """What one page explains: `said` by place. `waiting` are the places of pods that no page has come to yet, `before` of those that an
    earlier one explained."""

    said: tuple[tuple[Place, Said], ...]
    waiting: tuple[Place, ...] = ()
    before: tuple[Place, ...] = ()


class DraDiagnoseArguments(Arguments):
    namespace: Namespace | None = None
    pod: Name | None = None
    claim: Name | None = None
    device_class: Name | None = None
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


async def _dra_diagnose(context: ToolContext, arguments: DraDiagnoseArguments) -> Answer:
    if sum(item is not None for item in (arguments.pod, arguments.claim, arguments.device_class)) > 1:
        raise ToolRefusal("give one of pod, claim (both with namespace) or device_class, or none of them for all pods that wait")
    if (arguments.pod or arguments.claim) and arguments.namespace is None:
        raise ToolRefusal("argument 'namespace' is required for a pod or a claim")
    read = await read_kinds(context, KINDS)
    asked = request("dra_diagnose", context.reader.cluster, arguments)
    after = position(asked) or START
    if [type(part) for part in after] != [type(part) for part in START]:
        raise ToolRefusal(FOREIGN_CURSOR)
    # How many rows the earlier pages had; with a row's place it makes the cursor.
    before = int(after[-1])
    found = await anyio.to_thread.run_sync(_answers, read.world(context), arguments, after)
    counts = Counter(explanation.verdict.value for _, (_, _, explanation) in found.said)
    reasons = Counter(item.reason.value for _, (_, _, explanation) in found.said for item in explanation.decisions[:1])
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no pod waits for device claims"
    others = len(found.before) + len(found.waiting)
    headline = [
        verdicts + (f"; {others} more that wait are explained on other pages" if others else ""),
        *([f"decided by: {', '.join(f'{reason} ({count})' for reason, count in reasons.most_common())}"] if reasons else []),
    ]

    def render() -> Page:
        listed_rows = (((*place, index), row) for place, said in found.said for index, row in enumerate(_rows(said)))
        fresh = [(order, row) for order, row in listed_rows if order > after]
        rows = [((*order, before + count), row) for count, (order, row) in enumerate(fresh, 1)]
        # What was not looked at has a row that the page never comes to, and the next one begins with.
        beyond = [((*place, -1, 0), None) for place in found.waiting]

        def cells(row: Row | None) -> tuple[Cell, ...]:
            assert row is not None
            of, said = row
            if isinstance(said, str):
                return (str(of), "", "", "", said, "", "", "", cite(Source.FIELD, of, "devices.requests", said).id)
            funnel, step = said
            test = f"{step.test} {step.expression}" if step.expression else step.test
            evidence = cite(Source.FIELD, of, f"devices.requests[{funnel.request}]", f"{test}: {step.left} left")
            best = f"{funnel.best} has {funnel.most}" if funnel.best else ""
            wants = funnel.wanted or "all"
            return (str(of), funnel.request, funnel.device_class, wants, test, step.left, step.lost, best, evidence.id)

        return render_table(
            replace(asked, limit=min(asked.limit, len(rows))),
            headline=headline,
            columns=COLUMNS,
            items=(*rows, *beyond),
            cells=cells,
            missing=read.missing,
            untrusted=True,
            before=before,
            at_least=bool(beyond),
        )

    return Answer(render, read.growth, read.cost)


def _rows(said: Said) -> Iterator[Row]:
    of, lines, explanation = said
    yield from ((of, line) for line in lines)
    yield from ((of, (funnel, step)) for funnel in explanation.funnels for step in funnel.steps)


def _answers(world: World, arguments: DraDiagnoseArguments, after: Order) -> Explained:
    """What is asked; of all pods that wait, those of one page. Raises ToolRefusal for what does not exist."""
    if arguments.device_class is None and arguments.claim is None and arguments.pod is None:
        return explain_waiting(world, arguments.namespace, arguments.limit, after)
    said = _named(world, arguments)
    return Explained((((said[0].namespace or "", said[0].name), said),))


def explain_waiting(world: World, namespace: str | None, limit: int, after: Order) -> Explained:
    """Of the pods that wait for claims, in one namespace or all, as many as fill a page of `limit` rows that begins after a row. Each has
    all the work that one inquiry may do: a page ends where there is less left, but never without a row."""
    samples = (group.sample for group in world.once(pending_groups) if group.sample.spec.resource_claims)
    pods = {(pod.namespace or "", pod.name): pod for pod in samples if namespace in (None, pod.namespace)}
    ahead = sorted(place for place in pods if place >= after[:2])
    found: list[tuple[Place, Said]] = []
    rows, budget = 0, world.once(Budget)
    for place in ahead:
        if rows > limit or (rows and budget.left < INQUIRY_LIMIT):
            break
        said = (pods[place].ref, *_of_pod(world, pods[place]))
        rows += sum((*place, index) > after for index, _ in enumerate(_rows(said)))
        found.append((place, said))
    return Explained(tuple(found), tuple(ahead[len(found) :]), tuple(sorted(place for place in pods if place < after[:2])))


def _named(world: World, arguments: DraDiagnoseArguments) -> Said:
    if arguments.device_class is not None:
        return _of_class(world, arguments.device_class)
    if arguments.claim is not None:
        return _of_claim(world, arguments.namespace, arguments.claim)
    name = arguments.pod or ""
    pod = world.get(Pod, arguments.namespace, name)
    if pod is None:
        raise _unknown(world, Pod.kind, arguments.namespace, name)
    if not pod.spec.resource_claims:
        raise ToolRefusal(f"{pod.ref} uses no device claims; scheduling_explain says why a pod has no node")
    return (pod.ref, *_of_pod(world, pod))


def _of_claim(world: World, namespace: str | None, name: str) -> Said:
    claim = world.get(ResourceClaim, namespace, name)
    template = world.get(ResourceClaimTemplate, namespace, name)
    if claim is not None and claim.status.allocation is not None:
        return claim.ref, list(_allocated(claim)), Explanation(Verdict.ALLOCATABLE)
    found = claim or template
    if found is None:
        raise _unknown(world, ResourceClaim.kind, namespace, name)
    user = next((pod for pod in world.pods_in(namespace) if _waits_for(pod, name)), None)
    if user is not None:
        return (found.ref, *_of_pod(world, user))
    spec = claim.spec.devices if claim is not None else template.spec.spec.devices if template is not None else DeviceClaim()
    explanation = explain(world, (Claimed(name, found.ref, spec),))
    return (
        found.ref,
        [f"no pending pod uses {found.ref}; without regard to a pod's other needs:", *_sentences(explanation)],
        explanation,
    )


def _of_pod(world: World, pod: Pod) -> tuple[list[str], Explanation]:
    claims, held = pod_claims(world, pod)
    lines = [line for claim in held for line in _allocated(claim)]
    unseen = len(pod.spec.resource_claims or ()) - len(claims) - len(held)
    if unseen:
        lines.append(f"{unseen} claims or claim templates of {pod.ref} do not exist or cannot be seen")
    if not claims:
        return lines, Explanation(Verdict.UNKNOWN if unseen else Verdict.ALLOCATABLE)
    explanation = explain(world, claims, pod, held)
    return [*lines, *_sentences(explanation)], explanation


def _of_class(world: World, name: str) -> Said:
    class_ = world.get(DeviceClass, None, name)
    if class_ is None:
        raise _unknown(world, DeviceClass.kind, None, name)
    one = DeviceRequest(name="one", exactly=ExactRequest(device_class_name=name))
    explanation = explain(world, (Claimed("any", class_.ref, DeviceClaim(requests=(one,))),))
    return class_.ref, ["for one device of the class:", *_sentences(explanation)], explanation


def _waits_for(pod: Pod, name: str) -> bool:
    if pod.spec.node_name or pod.finished:
        return False
    named = any(name in (use.resource_claim_name, use.resource_claim_template_name) for use in pod.spec.resource_claims or ())
    return named or any(item.resource_claim_name == name for item in pod.status.resource_claim_statuses or ())


def _sentences(explanation: Explanation) -> Iterator[str]:
    """The verdict, what decides, and what could not be told."""
    yield explanation.verdict.value + (f" on {listed(list(explanation.nodes))}" if explanation.nodes else "")
    for place, decision in enumerate(explanation.decisions[:REASONS_SHOWN]):
        yield f"{'decides' if not place else 'and then'}: {decision.reason.value}: {decision.text}"
    if len(explanation.decisions) > REASONS_SHOWN:
        yield f"and {len(explanation.decisions) - REASONS_SHOWN} more reasons"
    yield from explanation.unknown[:REASONS_SHOWN]


def _allocated(claim: ResourceClaim) -> Iterator[str]:
    results = (claim.status.allocation.devices.results if claim.status.allocation else None) or ()
    devices = listed([f"{item.driver}/{item.pool}/{item.device}" for item in results])
    users = listed([f"{item.resource} {item.name}" for item in claim.status.reserved_for or ()]) or "nobody"
    yield f"{claim.ref} is allocated ({devices}) and reserved for {users}"
    for binding in bindings(claim)[:REASONS_SHOWN]:
        yield f"the scheduler waits for device {binding.device}: {'; '.join(words(binding))}"


def _unknown(world: World, kind: str, namespace: str | None, name: str) -> ToolRefusal:
    names = [fact.name for fact in world.custom(kind) if fact.namespace == namespace]
    return ToolRefusal(f"{ObjectRef(kind, namespace, name)} does not exist; {nearest(name, names, BY_NAME[kind].plural)}")


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        name="dra_diagnose",
        title="Explain a device claim",
        group="gpu",
        description="Why device claims (DRA) of one or all waiting pods are not allocated: the deciding rule, devices left by each test.",
        arguments=DraDiagnoseArguments,
        output=TableOutput,
        access=Access.READ,
        rbac=rules_of(BY_NAME[kind] for kind in KINDS),
        run=_dra_diagnose,
    ),
)
