"""What a cause costs: sick devices, the devices of pods that do not work, whole gangs; and no price from thin air."""

from __future__ import annotations

from msgspec import structs

from cluster.reference import ObjectRef
from cluster.world import World
from runbooks.cost import Tariff
from runbooks.finding import Cause, Diagnosis, Impact, Symptom
from runbooks.impact import impact, with_impacts
from tests.runbooks.test_remedies import cause
from tests.runbooks.worlds import world

USD = Tariff("USD", {"NVIDIA-H100*": 3.5})
N1, N2 = ObjectRef("Node", None, "n1"), ObjectRef("Node", None, "n2")
TRAIN, CHAT = ObjectRef("Job", "ml", "train"), ObjectRef("StatefulSet", "ml", "chat")


def node(name: str, usable: int = 8) -> str:
    return f"""
kind: Node
metadata: {{name: {name}, labels: {{nvidia.com/gpu.product: NVIDIA-H100-80GB}}}}
status:
  capacity: {{nvidia.com/gpu: "8"}}
  allocatable: {{nvidia.com/gpu: "{usable}"}}
  conditions: [{{type: Ready, status: "True"}}]
"""


def pod(name: str, on: str, owner: ObjectRef, *, ready: bool) -> str:
    return f"""
kind: Pod
metadata: {{name: {name}, namespace: ml, ownerReferences: [{{kind: {owner.kind}, name: {owner.name}, controller: true}}]}}
spec: {{nodeName: {on}, containers: [{{name: c, resources: {{limits: {{nvidia.com/gpu: "3"}}}}}}]}}
status: {{phase: Running, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


def fleet(*, dead: bool = True) -> World:
    """A gang of two on two nodes, a server of two beside it; on n1 one device is sick and the gang's pod fails."""
    return world(
        "\n---\n".join(
            (
                node("n1", 7 if dead else 8),
                node("n2"),
                "kind: Job\nmetadata: {name: train, namespace: ml}",
                "kind: StatefulSet\nmetadata: {name: chat, namespace: ml}",
                pod("train-0", "n1", TRAIN, ready=not dead),
                pod("train-1", "n2", TRAIN, ready=True),
                pod("chat-0", "n1", CHAT, ready=False),
                pod("chat-1", "n2", CHAT, ready=True),
            )
        )
    )


def broken(ref: ObjectRef, *symptoms: ObjectRef) -> Cause:
    return structs.replace(cause(ref, "gpu/xid-hardware"), symptoms=tuple(Symptom("code", item, "text") for item in symptoms))


def test_of_a_gang_all_devices_stand_still_and_of_a_server_those_of_the_pod_that_is_down() -> None:
    made = fleet()
    assert impact(broken(TRAIN), made, USD) == Impact(6, 21.0, "USD")
    assert impact(broken(CHAT), made, USD) == Impact(3, 10.5, "USD")


def test_a_sick_device_is_counted_once() -> None:
    found = impact(broken(N1, TRAIN), fleet(), USD)
    assert found == Impact(6, 21.0, "USD"), "the sick device is one of the three that the gang holds there"
    assert impact(broken(N1), fleet(), USD) == Impact(1, 3.5, "USD")
    assert found is not None
    assert found.text == "6 devices do no work because of it: 21.00 USD an hour"


def test_sick_devices_are_taken_off_once_however_many_hold_devices_there() -> None:
    second = ObjectRef("Job", "ml", "other")
    jobs = [f"kind: Job\nmetadata: {{name: {job.name}, namespace: ml}}" for job in (TRAIN, second)]
    pods = [pod(f"{job.name}-0", "n1", job, ready=False) for job in (TRAIN, second)]
    text = "\n---\n".join((node("n1", 6), *jobs, *pods))
    assert impact(broken(N1, TRAIN, second), world(text), USD) == Impact(6, 21.0, "USD")


def test_what_works_costs_nothing_extra_and_a_price_is_never_guessed() -> None:
    assert impact(broken(N2), fleet(dead=False), USD) is None
    assert impact(broken(TRAIN), fleet(dead=False), USD) is None
    found = impact(broken(TRAIN), fleet(), Tariff("USD", {"NVIDIA-A100*": 2.0}))
    assert found is not None
    assert found.text == "6 devices do no work because of it (no price is configured)"


def test_a_diagnosis_says_it_of_every_cause() -> None:
    made = fleet()
    told = with_impacts(Diagnosis("c", "all", made.now, healthy=False, causes=(broken(TRAIN), broken(N2))), made, USD)
    assert [item.impact is not None for item in told.causes] == [True, False]
