"""Which rule decides that a claim is not allocated. The rules are compared with the scheduler's own in tests/lab/test_deviceplay.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.facts.dra import DeviceTaintRule, ResourceClaim
from cluster.facts.pod import Pod
from cluster.reference import Scope
from cluster.world import World
from runbooks.detectors.claims import unsatisfied_claims
from runbooks.device_request import Budget, Explanation, Reason, Verdict, explain, pod_claims
from tests.runbooks.worlds import world as world_of

CLASS = """
---
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "d.example.com"'}}]}
"""


def world(text: str) -> World:
    """A world in which there are no DeviceTaintRules but those of the text."""
    return world_of(text, complete=(DeviceTaintRule.kind,))


def slice_(node: str, devices: str, *, count: int = 1, where: str = "") -> str:
    return f"""
---
kind: ResourceSlice
metadata: {{name: {node}-slice}}
spec:
  driver: d.example.com
  {where or f"nodeName: {node}"}
  pool: {{name: {node}, generation: 1, resourceSliceCount: {count}}}
  devices: [{devices}]
"""


def device(name: str, model: str = "H100", extra: str = "") -> str:
    return f"{{name: {name}, attributes: {{model: {{string: {model}}}}}, capacity: {{memory: {{value: 80Gi}}}}{extra}}}"


def node(name: str, labels: str = "{}") -> str:
    return f"\n---\nkind: Node\nmetadata: {{name: {name}, labels: {labels}}}\nstatus: {{conditions: [{{type: Ready, status: 'True'}}]}}\n"


def claim(request: str, *, more: str = "") -> str:
    return f"""
---
kind: ResourceClaim
metadata: {{name: c, namespace: ml}}
spec: {{devices: {{requests: [{request}]{more}}}}}
"""


def pod(selector: str = "{}") -> str:
    return f"""
---
kind: Pod
metadata: {{name: p, namespace: ml}}
spec: {{containers: [{{name: c}}], nodeSelector: {selector}, resourceClaims: [{{name: gpu, resourceClaimName: c}}]}}
status: {{phase: Pending}}
"""


def explained(text: str) -> Explanation:
    return explained_in(world(text))


def explained_in(made: World) -> Explanation:
    asked = made.get(Pod, "ml", "p")
    assert asked is not None
    claims, held = pod_claims(made, asked)
    return explain(made, claims, asked, held)


def wants(more: str = "", model: str = "H100") -> str:
    selector = f'{{cel: {{expression: \'device.attributes["d.example.com"].model == "{model}"\'}}}}'
    return f"{{name: r, exactly: {{deviceClassName: gpu, selectors: [{selector}]{more}}}}}"


TWO = slice_("n1", f"{device('a')}, {device('b', 'A100')}") + slice_("n2", device("a"))


def test_what_fits_names_the_nodes() -> None:
    found = explained(CLASS + TWO + claim(wants()) + pod())
    assert (found.verdict, found.nodes) == (Verdict.ALLOCATABLE, ("n1", "n2"))


def test_the_count_that_would_fit_and_the_nearest_node() -> None:
    found = explained(CLASS + TWO + claim(wants(", count: 2")) + pod())
    [decision] = found.decisions
    assert (decision.reason, decision.detail) == (Reason.COUNT, "1")
    assert [(step.test, step.left) for step in found.funnels[0].steps] == [("published", 3), ("selector", 3), ("selector", 2)]
    assert found.funnels[0].most == 1


def test_a_node_that_is_not_open_to_the_pod() -> None:
    text = CLASS + node("n1") + node("n3", "{zone: a}") + slice_("n1", device("a")) + claim(wants()) + pod("{zone: a}")
    [decision] = explained(text).decisions
    assert decision.reason is Reason.NODE
    assert "nodeSelector zone=a" in decision.text


def test_two_reasons_are_both_named_and_only_what_is_needed() -> None:
    tainted = device("a", "A100", ", taints: [{key: sick, effect: NoSchedule}]")
    found = explained(CLASS + slice_("n1", tainted) + claim(wants()) + pod())
    assert [item.reason for item in found.decisions] == [Reason.SELECTOR, Reason.TAINT]


def rule(name: str, selector: str = "{driver: d.example.com, pool: n1}", effect: str = "NoSchedule") -> str:
    return f"""
---
kind: DeviceTaintRule
metadata: {{name: {name}}}
spec: {{deviceSelector: {selector}, taint: {{key: repair, value: "7", effect: {effect}}}}}
"""


def test_a_taint_rule_is_named_where_it_decides() -> None:
    one = CLASS + slice_("n1", f"{device('a')}, {device('b')}") + claim(wants()) + pod()
    made = world(one + rule("rack-7"))
    [decision] = explained_in(made).decisions
    assert (decision.reason, str(decision.about)) == (Reason.TAINT, "DeviceTaintRule/rack-7")
    assert "2 of 2 devices" in decision.text
    assert "repair=7:NoSchedule by DeviceTaintRule/rack-7" in decision.text
    [finding] = unsatisfied_claims(made)
    assert (finding.code, str(finding.subject)) == ("dra.device-tainted", "DeviceTaintRule/rack-7")
    assert [(item.path, item.object.kind) for item in finding.evidence][:1] == [("spec.taint", "DeviceTaintRule")]


@pytest.mark.parametrize(
    "other",
    [
        rule("x", "{driver: other.example.com}"),
        rule("x", "{pool: n2}"),
        rule("x", "{device: b}"),
        rule("x", effect="None"),
        rule("x").replace("deviceSelector: {driver: d.example.com, pool: n1}, ", ""),
    ],
)
def test_a_taint_rule_about_something_else_decides_nothing(other: str) -> None:
    assert explained(CLASS + slice_("n1", device("a")) + claim(wants()) + pod() + other).verdict is Verdict.ALLOCATABLE


def by_model(model: str, name: str = "model") -> str:
    return 'selectors: [{cel: {expression: \'device.attributes["d.example.com"].' + f'{name} == "{model}"\'}}}}]'


OTHERS = "\n---\nkind: DeviceClass\nmetadata: {name: others}\nspec: {selectors: [{cel: {expression: 'device.driver == \"other\"'}}]}\n"


@pytest.mark.parametrize("selector", ["deviceClassName: gpu", by_model("H100"), f"deviceClassName: gpu, pool: n1, {by_model('H100')}"])
def test_a_taint_rule_by_class_and_selectors_is_named_where_it_decides(selector: str) -> None:
    [decision] = explained(CLASS + slice_("n1", device("a")) + claim(wants()) + pod() + rule("old", f"{{{selector}}}")).decisions
    assert (decision.reason, str(decision.about)) == (Reason.TAINT, "DeviceTaintRule/old")


@pytest.mark.parametrize(
    "selector",
    [
        "deviceClassName: others",
        "deviceClassName: gone",
        f"deviceClassName: gpu, {by_model('A100')}",
        by_model("H100", "absent"),
        f"device: b, {by_model('H100')}",
    ],
)
def test_a_taint_rule_whose_class_or_selectors_no_device_meets_decides_nothing(selector: str) -> None:
    text = CLASS + OTHERS + slice_("n1", device("a")) + claim(wants()) + pod() + rule("old", f"{{{selector}}}")
    made = world_of(text, complete=(DeviceTaintRule.kind, "DeviceClass"))
    assert explained_in(made).verdict is Verdict.ALLOCATABLE


def test_a_taint_rule_that_cannot_be_evaluated_is_said_to_be_so() -> None:
    unclear = rule("old", "{selectors: [{cel: {expression: 'cel.bind(x, 1, x == 1)'}}]}")
    found = explained(CLASS + slice_("n1", device("a")) + claim(wants()) + pod() + unclear)
    said = "DeviceTaintRule old: the class or selectors cannot be seen or evaluated, and devices that it taints look usable"
    assert (found.verdict, found.unknown) == (Verdict.UNKNOWN, (said,))


def test_a_taint_that_the_driver_set_too_is_the_drivers() -> None:
    sick = device("a", extra=", taints: [{key: repair, value: '7', effect: NoSchedule}]")
    [decision] = explained(CLASS + slice_("n1", sick) + claim(wants()) + pod() + rule("late", "{}")).decisions
    assert str(decision.about) == "ResourceSlice/n1-slice"
    assert "repair=7:NoSchedule by the driver" in decision.text


def test_devices_look_usable_where_taint_rules_were_not_read() -> None:
    found = explained_in(world_of(CLASS + TWO + claim(wants()) + pod()))
    said = "DeviceTaintRule objects were not read: devices that they taint look usable"
    assert (found.verdict, found.nodes, found.unknown) == (Verdict.UNKNOWN, ("n1", "n2"), (said,))


def on_root(name: str, root: str | None, numa: int = 0) -> str:
    said = f", resource.kubernetes.io/pcieRoot: {{string: {root}}}" if root else ""
    return f"{{name: {name}, attributes: {{model: {{string: H100}}, numa: {{int: {numa}}}{said}}}}}"


ROOT = "resource.kubernetes.io/pcieRoot"


@pytest.mark.parametrize(
    ("roots", "word", "attribute", "shown"),
    [
        (("pci0", "pci0", "pci1"), "matchAttribute", ROOT, f"share one value of {ROOT}, and no node has free devices that do"),
        (("pci0", "pci0", "pci1"), "matchAttribute", ROOT, "; nearest is node n1: pci0 (d0, d1); pci1 (d2)."),
        (("pci0", "pci0", "pci1"), "distinctAttribute", ROOT, "n1: pci0 (d0, d1); pci1 (d2); devices of one value collide."),
        (("pci0", "pci1", None), "distinctAttribute", ROOT, "n1: pci0 (d0); pci1 (d1); without it, so of no use, d2."),
        ((None,) * 3, "matchAttribute", ROOT, "n1: without it, so of no use, d0, d1, d2."),
        (("r",) * 6, "matchAttribute", "d.example.com/numa", "n1: 0 (d0); 1 (d1); 2 (d2); 3 (d3); 2 more values."),
    ],
)
def test_a_constraint_is_told_by_the_devices_that_collide(roots: tuple[str | None, ...], word: str, attribute: str, shown: str) -> None:
    devices = ", ".join(on_root(f"d{place}", root, place) for place, root in enumerate(roots))
    bound = f", constraints: [{{{word}: {attribute}}}]"
    two = slice_("n1", devices) + slice_("n2", on_root("x", None))
    made = world(CLASS + two + claim(wants(", count: 3"), more=bound) + pod())
    [decision] = explained_in(made).decisions
    assert decision.reason is Reason.CONSTRAINT
    assert shown in decision.text
    [finding] = unsatisfied_claims(made)
    assert [item.path for item in finding.evidence] == ["devices.constraints[]", "spec.devices[].attributes"]


def test_a_request_for_all_is_not_widened_to_make_room_for_another() -> None:
    every = "{name: every, exactly: {deviceClassName: gpu, allocationMode: All, selectors: [{cel: {expression: '%s'}}]}}"
    every %= 'device.attributes["d.example.com"].model == "A100"'
    found = explained(CLASS + slice_("n1", f"{device('a')}, {device('b', 'A100')}") + claim(f"{wants(model='B200')}, {every}") + pod())
    [decision] = found.decisions
    assert (decision.reason, decision.request) == (Reason.SELECTOR, "gpu/r")


def test_an_alternative_that_fits_is_enough() -> None:
    second = "{name: old, deviceClassName: gpu}"
    first = "{name: new, deviceClassName: gpu, count: 9}"
    assert explained(CLASS + TWO + claim(f"{{name: r, firstAvailable: [{first}, {second}]}}") + pod()).verdict is Verdict.ALLOCATABLE


def test_an_unfinished_pool_is_no_obstacle_but_to_who_wants_all() -> None:
    some = CLASS + TWO + slice_("more", device("x", "L4"), count=2, where="nodeName: n1")
    assert explained(some + claim(wants()) + pod()).verdict is Verdict.ALLOCATABLE
    [decision] = explained(some + claim(wants(", allocationMode: All")) + pod()).decisions
    assert decision.reason is Reason.POOL_UNFINISHED


def test_admin_access_takes_nothing_and_needs_nothing_free() -> None:
    held = """
---
kind: ResourceClaim
metadata: {name: other, namespace: ml}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}
status: {allocation: {devices: {results: [{request: r, driver: d.example.com, pool: n1, device: a}]}}}
"""
    text = CLASS + slice_("n1", device("a")) + held
    assert [item.reason for item in explained(text + claim(wants()) + pod()).decisions] == [Reason.IN_USE]
    assert explained(text + claim(wants(", adminAccess: true")) + pod()).verdict is Verdict.ALLOCATABLE


def test_the_form_of_v1beta1_is_read_as_that_of_v1() -> None:
    old = slice_("n1", "{name: a, basic: {attributes: {model: {string: H100}}, taints: [{key: sick, effect: NoExecute}]}}")
    request = "{name: r, deviceClassName: gpu, allocationMode: ExactCount, count: 1}"
    found = explained(CLASS + old + claim(request) + pod())
    assert [item.reason for item in found.decisions] == [Reason.TAINT]


def test_what_was_not_read_is_said() -> None:
    found = explained(TWO + claim(wants()) + pod())
    assert (found.verdict, found.unknown) == (Verdict.UNKNOWN, ("DeviceClass objects were not read",))


@pytest.mark.parametrize("some", [Scope("test", ("ml",)), None])
def test_devices_look_free_where_the_claims_of_others_were_not_read(some: Scope | None) -> None:
    def partly(text: str) -> Explanation:
        made = world(text)
        return explained_in(replace(made, scope=some) if some else replace(made, read_kinds=made.read_kinds - {ResourceClaim.kind}))

    said = "claims of other namespaces were not read: their devices look free"
    found = partly(CLASS + TWO + claim(wants()) + pod())
    assert (found.verdict, found.nodes, found.unknown) == (Verdict.UNKNOWN, ("n1", "n2"), (said,))
    found = partly(CLASS + TWO + claim(wants(", count: 2")) + pod())
    assert (found.verdict, found.unknown) == (Verdict.PENDING, (said,))
    assert explained(CLASS + TWO + claim(wants()) + pod()).unknown == ()


def unique(name: str, more: str = "") -> str:
    return f"{{name: {name}, attributes: {{model: {{string: H100}}, uuid: {{string: GPU-{name}}}}}{more}}}"


def spent(devices: str, request: str) -> int:
    """The work for one claim on three nodes with such devices."""
    made = world(
        CLASS + "".join(slice_(f"n{place}", devices.replace("GPU-", f"GPU-{place}-")) for place in range(3)) + claim(request) + pod()
    )
    before = made.once(Budget).left
    assert explained_in(made).verdict is Verdict.PENDING
    return before - made.once(Budget).left


def test_what_no_selector_names_makes_no_devices_different() -> None:
    several = [f"d{place}" for place in range(4)]
    alike = spent(", ".join(f"{{name: {name}, attributes: {{model: {{string: H100}}}}}}" for name in several), wants(", count: 9"))
    assert spent(", ".join(map(unique, several)), wants(", count: 9")) == alike
    named = '{cel: {expression: \'device.attributes["d.example.com"].uuid != "x"\'}}'
    by_uuid = f"{{name: r, exactly: {{deviceClassName: gpu, selectors: [{named}], count: 9}}}}"
    assert spent(", ".join(map(unique, several)), by_uuid) > alike


def test_devices_that_a_selector_rejects_cost_work_too() -> None:
    few, many = (", ".join(unique(f"d{place}") for place in range(count)) for count in (2, 20))
    assert spent(many, wants(model="B200")) > spent(few, wants(model="B200"))


def test_one_budget_for_all_claims_of_a_world_and_no_question_twice() -> None:
    made = world(CLASS + TWO + claim(wants()) + pod() + pod().replace("name: p,", "name: q,"))
    found = explained_in(made)
    budget = made.once(Budget)
    budget.left = 0
    assert explained_in(made) == found
    other = made.get(Pod, "ml", "q")
    assert other is not None
    refused = explain(made, pod_claims(made, other)[0], other)
    assert (refused.verdict, refused.unknown) == (Verdict.UNKNOWN, ("not looked at in the time that is spent on all claims together",))


def test_who_is_asked_about_is_explained_before_the_work_is_spent() -> None:
    made = world(CLASS + TWO + claim(wants(", count: 9")) + pod() + pod().replace("name: p,", "name: q,"))
    asked = made.get(Pod, "ml", "q")
    assert asked is not None
    for scope, first in ((Scope("test"), "p"), (Scope("test", subject=asked.ref), "q")):
        found = unsatisfied_claims(replace(made, scope=scope))
        assert str(next(iter(found)).affects[0]) == f"Pod/ml/{first}"


def test_a_search_that_is_too_long_is_not_decided() -> None:
    made = world(CLASS + TWO + claim(wants()) + pod())
    made.once(Budget).left = 4
    found = explained_in(made)
    assert (found.verdict, found.unknown) == (Verdict.UNKNOWN, ("there are more combinations of devices than are tried here",))


def test_counters_are_counted_on_every_node_of_those_that_are_alike() -> None:
    cut = ", consumesCounters: [{counterSet: s, counters: {slices: {value: '5'}}}]"
    sets = "nodeName: {0}\n  sharedCounters: [{{name: s, counters: {{slices: {{value: '4'}}}}}}]"
    text = CLASS + "".join(slice_(name, unique(f"{name}-a", cut), where=sets.format(name)) for name in ("n1", "n2"))
    [funnel] = explained(text + claim(wants()) + pod()).funnels
    assert [(step.test, step.left) for step in funnel.steps][-1] == ("counters left", 0)


def test_nothing_is_found_where_the_reason_is_not_found_in_time() -> None:
    told = []
    for left in range(60):
        made = world(CLASS + TWO + claim(wants(", count: 2")) + pod())
        made.once(Budget).left = left
        told.append((explained_in(made).verdict, [item.code for item in unsatisfied_claims(made)]))
    assert (Verdict.PENDING, []) in told
    assert told[-1] == (Verdict.PENDING, ["dra.no-matching-device"])
