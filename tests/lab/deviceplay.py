"""Plays generated device claims into a real control plane, asks its scheduler and us, and takes away the reasons that we name.

Nothing waits for time to pass: a sentinel's claim, made after everything else, tells that the scheduler has seen it all, so the first
word about a pod made after that is final.
"""

from __future__ import annotations

import copy
import datetime
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from cluster.facts.dra import DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice
from cluster.facts.meta import Fact
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.reference import Scope
from cluster.world import World
from runbooks.device_allocation import Rule
from runbooks.device_binding import Refused, bindings, refused
from runbooks.device_binding import words as binding_words
from runbooks.device_request import Decision, Explanation, Reason, Verdict, explain, pod_claims
from tests.lab.api import ApiClient, ApiError, Object, wait_for
from tests.lab.devicecases import API, NAMESPACE, Case, node_name, nodes
from tests.lab.scenario import initialized

PATIENT_SECONDS = 300.0
ATTEMPTS = 7
KINDS: tuple[tuple[str, type[Fact]], ...] = (
    ("v1", Node),
    ("v1", Pod),
    (API, DeviceClass),
    (API, ResourceSlice),
    (API, ResourceClaim),
    (API, ResourceClaimTemplate),
    (API, DeviceTaintRule),
)
# The attribute that the generator leaves out, with what it is compared with; not inside `has`.
_RISKY = re.compile(r"(?<!has\()(device\.attributes\[\"[^\"]+\"\])\.(ecc)\b( == \w+)?")


@dataclass
class Judged:
    """One case. `said` is our explanation before each attempt, `done` what the scheduler did at it: nothing when it allocated, else its
    words. Before every attempt but the first, what we had named first was taken away."""

    case: Case
    said: list[Explanation] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    refused: str = ""
    # What we said of devices that were allocated and not attached yet, and what the scheduler says when one cannot be.
    bound: list[str] = field(default_factory=list)
    given_back: list[Refused] = field(default_factory=list)

    @property
    def allocated(self) -> bool:
        return bool(self.done) and not self.done[-1]

    @property
    def complaint(self) -> str:
        """What is wrong with our answers, "" when nothing is."""
        if self.refused:
            return f"the API server refuses it: {self.refused}"
        for attempt, (explanation, words) in enumerate(zip(self.said, self.done, strict=True)):
            named = "; ".join(item.text for item in explanation.decisions) or "; ".join(explanation.unknown)
            if (explanation.verdict is Verdict.ALLOCATABLE) is bool(words) or explanation.verdict is Verdict.UNKNOWN:
                return f"attempt {attempt}: we say {explanation.verdict.value} ({named}), the scheduler: {words or 'allocates'}"
            if not words:
                if self.case.fails_to_bind and self.bound and not self.given_back:
                    return f"attempt {attempt}: a device could not be attached, and we do not understand what the scheduler says of it"
                break
            if not explanation.decisions:
                return f"attempt {attempt}: we name no reason ({named}), the scheduler: {words}"
            # What is not there at all hides what else is amiss; of other reasons, all have to go.
            last = len(explanation.decisions) == 1
            if explanation.decisions[0].waiver is None:
                continue
            if attempt + 1 < len(self.done) and last is bool(self.done[attempt + 1]):
                first = f"taking away {explanation.decisions[0].text!r} (of {len(explanation.decisions)})"
                return f"attempt {attempt}: {first} and the scheduler: {self.done[attempt + 1] or 'allocates'}"
        return "" if self.allocated else f"still pending after {len(self.done)} attempts: {self.done[-1]}"


@dataclass
class Stage:
    """A control plane with slots of nodes, for one batch of cases after the other."""

    client: ApiClient
    slots: int
    sentinels: int = 0
    namespaces: list[Object] = field(default_factory=list)

    def set_up(self) -> None:
        labels = {"resource.kubernetes.io/admin-access": "true"}
        self.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        for node in nodes(self.slots):
            self.client.apply(node)
        for node in nodes(self.slots):
            name = node["metadata"]["name"]
            wait_for(f"node {name} to be initialized", functools.partial(initialized, self.client, name), PATIENT_SECONDS)
        account = functools.partial(self.client.get, "v1", "ServiceAccount", "default", NAMESPACE)
        wait_for("the service account", account, PATIENT_SECONDS)

    def tear_down(self) -> None:
        for node in nodes(self.slots):
            self.client.delete("v1", "Node", node["metadata"]["name"])
        self.client.delete("v1", "Namespace", NAMESPACE)

    def judge(self, cases: Sequence[Case]) -> list[Judged]:
        """What we and the scheduler say about cases of different slots."""
        judged = [self._prepared(case) for case in cases]
        playing = [item for item in judged if not item.refused]
        try:
            for attempt in range(ATTEMPTS):
                self._attempt(playing, attempt)
                playing = [item for item in playing if not item.allocated and item.said[-1].decisions]
                for item in playing if attempt + 1 < ATTEMPTS else ():
                    self._withdraw(item.case, attempt)
                    self._take_away(item.case, item.said[-1].decisions[0])
        finally:
            for case in cases:
                self._clear(case)
        return judged

    # -- one attempt

    def _prepared(self, case: Case) -> Judged:
        judged = Judged(case)
        try:
            for manifest in (*case.classes, *case.slices, *case.rules):
                self.client.apply(manifest)
            for holder in case.holders:
                self.client.apply({key: value for key, value in holder.items() if key != "status"})
                self.client.patch(API, "ResourceClaim", holder["metadata"]["name"], {"status": holder["status"]}, NAMESPACE, "status")
        except ApiError as error:
            judged.refused = str(error)
        return judged

    def _attempt(self, judged: Sequence[Judged], attempt: int) -> None:
        for item in judged:
            for manifest in item.case.claim_objects(attempt):
                self.client.apply(manifest)
        self._sentinel()
        world = self.world()
        for item in judged:
            pod = self.client.json("POST", self.client.path("v1", "Pod", NAMESPACE), query={"dryRun": "All"}, body=item.case.pod(attempt))
            fact = msgspec.convert(pod, Pod)
            claims, held = pod_claims(world, fact)
            item.said.append(explain(world, claims, fact, held))
        for item in judged:
            self.client.json("POST", self.client.path("v1", "Pod", NAMESPACE), body=item.case.pod(attempt))
        for item in judged:
            name = item.case.pod(attempt)["metadata"]["name"]
            word = wait_for(f"a word of the scheduler about {name}", functools.partial(self._word, name, item), PATIENT_SECONDS)
            item.done.append(word[1])

    def _word(self, name: str, judged: Judged | None = None) -> tuple[bool, str] | None:
        pod = self.client.get("v1", "Pod", name, NAMESPACE) or {}
        if judged is not None and judged.case.theme == "binding":
            self._attach(pod, judged)
        if pod.get("spec", {}).get("nodeName"):
            return True, ""
        for item in pod.get("status", {}).get("conditions", ()):
            said = item.get("message", "")
            unmade = any(
                text in said for text in ("not created yet", "waiting for", "device binding", "deallocation of ResourceClaim completed")
            )
            if item["type"] == "PodScheduled" and item["status"] == "False" and not unmade:
                return False, str(item.get("message", ""))
        return None

    def _attach(self, pod: Object, judged: Judged) -> None:
        """Be the controller that attaches devices: what a claim's devices wait for comes true, once a failure where the case says so."""
        if judged.case.fails_to_bind and not judged.given_back:
            about = self.client.list("v1", "Event", NAMESPACE)
            mine = (item.get("message", "") for item in about if item["involvedObject"].get("uid") == pod["metadata"]["uid"])
            judged.given_back = [back for text in mine if (back := refused(text)) is not None and back.detail]
        for claim in self.client.list(API, "ResourceClaim", NAMESPACE):
            waiting = bindings(msgspec.convert(claim, ResourceClaim))
            reserved = any(user["uid"] == pod["metadata"]["uid"] for user in claim.get("status", {}).get("reservedFor", ()))
            if not waiting or not reserved or any(item.failed for item in waiting):
                continue
            fails = judged.case.fails_to_bind and not judged.bound
            judged.bound += [words for item in waiting for words in binding_words(item)]
            at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            said = {"status": "True", "reason": "Played", "message": "by the lab", "lastTransitionTime": at}
            types = ("AttachFailed",) if fails else ("Attached", "Warm")
            devices = [
                {**{key: one[key] for key in ("driver", "pool", "device")}, "conditions": [{"type": name, **said} for name in types]}
                for one in claim["status"]["allocation"]["devices"]["results"]
            ]
            self.client.patch(API, "ResourceClaim", claim["metadata"]["name"], {"status": {"devices": devices}}, NAMESPACE, "status")

    def world(self) -> World:
        """What the product would read of it."""
        made = World("lab", datetime.datetime.now(datetime.UTC), Scope("lab"))
        for version, kind in KINDS:
            facts = [msgspec.convert(one, kind) for one in self.client.list(version, kind.kind)]
            made = made.with_facts(kind.kind, facts, complete=True)
        return made

    def _sentinel(self) -> None:
        """Returns when the scheduler has allocated a claim, and minded a taint rule, that were made after everything that is there."""
        while self._device_of_a_sentinel() != "only":
            continue

    def _device_of_a_sentinel(self) -> str:
        """Which of two devices a sentinel's claim is given: the early one, which is tainted by rule, where the rule was not seen yet."""
        self.sentinels += 1
        name = f"sentinel-{self.sentinels}"
        driver = f"{name}.example.com"
        expression = f'device.driver == "{driver}"'
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        slice_ = {"driver": driver, "pool": pool, "nodeName": node_name(0, 0), "devices": [{"name": "early"}, {"name": "only"}]}
        rule = {"deviceSelector": {"driver": driver, "device": "early"}, "taint": {"key": "sentinel", "effect": "NoSchedule"}}
        request = {"name": "only", "exactly": {"deviceClassName": name}}
        case = Case(name, "sentinel", 0)
        case.classes = [_object("DeviceClass", name, {"selectors": [{"cel": {"expression": expression}}]})]
        case.rules = [_object("DeviceTaintRule", name, rule)]
        case.slices = [_object("ResourceSlice", name, slice_)]
        case.claims = {"only": {"devices": {"requests": [request]}}}
        for manifest in (*case.rules, *case.classes, *case.slices, *case.claim_objects(0)):
            self.client.apply(manifest)
        self.client.json("POST", self.client.path("v1", "Pod", NAMESPACE), body=case.pod(0))

        def scheduled() -> bool:
            word = self._word(f"{name}-0")
            return word is not None and word[0]

        wait_for("the sentinel to be scheduled", scheduled, PATIENT_SECONDS)
        claim = self.client.get(API, "ResourceClaim", case.claim_name("only", 0), NAMESPACE) or {}
        self._clear(case)
        return str(claim["status"]["allocation"]["devices"]["results"][0]["device"])

    # -- taking away what was named

    def _take_away(self, case: Case, decision: Decision) -> None:
        """Change just what the decision names."""
        waiver = decision.waiver
        rule = waiver.rule if waiver else None
        match decision.reason:
            case Reason.CLASS_MISSING:
                driver = case.slices[0]["spec"]["driver"] if case.slices else f"{case.name}.example.com"
                expression = f'device.driver == "{driver}"'
                self._put(_object("DeviceClass", decision.detail, {"selectors": [{"cel": {"expression": expression}}]}), case.classes)
            case Reason.COUNT | Reason.NO_DEVICES if waiver is None:
                devices = [{**case.ideal, "name": f"ideal-{index}"} for index in range(16)]
                pool = {"name": f"{case.name}-ideal", "generation": 1, "resourceSliceCount": 1}
                spec = {"driver": f"{case.name}.example.com", "pool": pool, "nodeName": node_name(case.slot, 0), "devices": devices}
                self._put(_object("ResourceSlice", f"{case.name}-ideal", spec), case.slices)
            case Reason.NODE:
                case.node_selector = {}
            case Reason.IN_USE:
                for holder in case.holders:
                    self._release(holder["metadata"]["name"])
                case.holders = []
            case Reason.POOL_UNFINISHED | Reason.TAINT | Reason.COUNTERS | Reason.CAPACITY:
                for manifest in case.slices:
                    _CHANGES[decision.reason](case, manifest["spec"])
                    self.client.apply(manifest)
                if decision.reason is Reason.TAINT:
                    for manifest in case.rules:
                        self.client.delete(API, manifest["kind"], manifest["metadata"]["name"])
                if decision.reason is Reason.CAPACITY:
                    for exactly in _requests(case, None):
                        asked = exactly.get("capacity", {}).get("requests", {})
                        # Every device of the generator has memory, and nothing else.
                        exactly.pop("capacity", None)
                        if "memory" in asked:
                            exactly["capacity"] = {"requests": {"memory": "1"}}
            case Reason.CONSTRAINT if waiver is not None:
                constraints = case.claims[waiver.request or ""]["devices"]["constraints"]
                del constraints[waiver.position or 0]
            case Reason.COUNT if waiver is not None:
                for exactly in _requests(case, waiver.request):
                    exactly |= {"count": waiver.count, "allocationMode": "ExactCount"}
            case Reason.SELECTOR if waiver is not None and rule is Rule.SELECTOR:
                self._change_selector(case, waiver.request or "", waiver.position or 0, lambda _: "true")
            case Reason.SELECTOR_ERROR:
                self._guard(case)

    def _put(self, manifest: Object, kept: list[Object]) -> None:
        self.client.apply(manifest)
        kept.append(manifest)

    def _change_selector(self, case: Case, request: str, position: int, change: Callable[[str], str]) -> None:
        for exactly in _requests(case, request):
            class_ = next(item for item in case.classes if item["metadata"]["name"] == exactly["deviceClassName"])
            of_class = class_["spec"]["selectors"]
            chosen = of_class[position] if position < len(of_class) else exactly["selectors"][position - len(of_class)]
            chosen["cel"]["expression"] = change(chosen["cel"]["expression"])
            self.client.apply(class_)

    def _guard(self, case: Case) -> None:
        """Have every selector test for the attribute that devices may lack."""

        def guarded(text: str) -> str:
            return _RISKY.sub(_tested, text)

        for class_ in case.classes:
            for item in class_["spec"]["selectors"]:
                item["cel"]["expression"] = guarded(item["cel"]["expression"])
            self.client.apply(class_)
        for exactly in _requests(case, None):
            for item in exactly.get("selectors", ()):
                item["cel"]["expression"] = guarded(item["cel"]["expression"])

    # -- clearing up

    def _withdraw(self, case: Case, attempt: int) -> None:
        """Delete an attempt's pod and claims; returns when the pod is gone."""
        name = case.pod(attempt)["metadata"]["name"]
        self.client.json("DELETE", self.client.path("v1", "Pod", NAMESPACE, name), body={"gracePeriodSeconds": 0})
        wait_for(f"{name} to be gone", lambda: self.client.get("v1", "Pod", name, NAMESPACE) is None, PATIENT_SECONDS)
        for manifest in case.claim_objects(attempt):
            self.client.delete(API, manifest["kind"], manifest["metadata"]["name"], NAMESPACE)

    def _release(self, name: str) -> None:
        self.client.patch(API, "ResourceClaim", name, {"status": None}, NAMESPACE, "status")
        self.client.delete(API, "ResourceClaim", name, NAMESPACE)

    def _clear(self, case: Case) -> None:
        for attempt in range(ATTEMPTS):
            name = case.pod(attempt)["metadata"]["name"]
            self.client.request("DELETE", self.client.path("v1", "Pod", NAMESPACE, name), body={"gracePeriodSeconds": 0})
            for manifest in case.claim_objects(attempt):
                self.client.delete(API, manifest["kind"], manifest["metadata"]["name"], NAMESPACE)
        for manifest in case.holders:
            self._release(manifest["metadata"]["name"])
        for manifest in (*case.slices, *case.classes, *case.rules):
            self.client.delete(API, manifest["kind"], manifest["metadata"]["name"])


def _tested(found: re.Match[str]) -> str:
    holder, name, compared = found.groups()
    return f'("{name}" in {holder} && {holder}.{name}{compared or ""})'


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _requests(case: Case, request: str | None) -> Iterator[Object]:
    """The requests of that name, `CLAIM/REQUEST[/SUBREQUEST]`, or all of them."""
    for claim, spec in case.claims.items():
        for item in spec["devices"]["requests"]:
            ways = (
                [(item["name"], item["exactly"])]
                if "exactly" in item
                else [(f"{item['name']}/{sub['name']}", sub) for sub in item["firstAvailable"]]
            )
            for name, exactly in ways:
                if request in (None, f"{claim}/{name}"):
                    yield exactly


def _complete(case: Case, spec: Object) -> None:
    pool = spec["pool"]
    newest = max(item["spec"]["pool"]["generation"] for item in case.slices if item["spec"]["pool"]["name"] == pool["name"])
    count = sum(item["spec"]["pool"]["name"] == pool["name"] and item["spec"]["pool"]["generation"] == newest for item in case.slices)
    if pool["generation"] == newest:
        pool["resourceSliceCount"] = count


def _untaint(_: Case, spec: Object) -> None:
    for device in spec.get("devices", ()):
        device.pop("taints", None)


def _more_counters(_: Case, spec: Object) -> None:
    for entry in spec.get("sharedCounters", ()):
        for counter in entry["counters"].values():
            counter["value"] = (
                counter["value"].replace("80Gi", "8000Gi").replace("7", "700") if counter["value"] in ("80Gi", "7") else counter["value"]
            )


def _more_capacity(_: Case, spec: Object) -> None:
    for device in spec.get("devices", ()):
        for capacity in device.get("capacity", {}).values():
            capacity["value"] = "40000Gi"


_CHANGES: dict[Reason, Callable[[Case, Object], None]] = {
    Reason.POOL_UNFINISHED: _complete,
    Reason.TAINT: _untaint,
    Reason.COUNTERS: _more_counters,
    Reason.CAPACITY: _more_capacity,
}


def play(stage: Stage, cases: Iterable[Case]) -> Iterator[Judged]:
    """All cases, as many at once as there are slots."""
    batch: list[Case] = []
    for case in cases:
        batch.append(copy.deepcopy(case))
        if len(batch) == stage.slots:
            yield from stage.judge(batch)
            batch = []
    if batch:
        yield from stage.judge(batch)
