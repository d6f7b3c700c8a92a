"""Which rule decides that a claim is not allocated. The rules are compared with the scheduler's own in tests/lab/test_deviceplay.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.facts.dra import ResourceClaim
from cluster.facts.pod import Pod
from cluster.reference import Scope
from cluster.world import World
from runbooks.device_request import Explanation, Reason, Verdict, explain, pod_claims
from tests.runbooks.worlds import world

CLASS = """
---
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "d.example.com"'}}]}
"""


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
