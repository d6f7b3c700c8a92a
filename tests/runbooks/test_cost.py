"""Costs by the hour of worlds whose devices work, wait, idle, are stranded, closed and sick."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cluster.reference import ObjectRef
from runbooks.cost import NOBODY, Loss, Report, Share, price_of, report
from runbooks.inventory import Note, inventory
from tests.runbooks.test_inventory import node, only, pod
from tests.runbooks.worlds import world

PRICES = {"*H100*": 3.0, "nvidia.com/mig-1g.*": 0.5}
LABEL = "{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}"


def reported(
    text: str, notes: tuple[Note, ...] = (), prices: Mapping[str, float] = PRICES, teams: Mapping[str, str] = {"ml": "vision"}
) -> Report:
    made = world(text)
    return report(made, inventory(made), notes, price=price_of(prices), team=lambda namespace: teams.get(namespace or "", ""))


def ready(text: str) -> str:
    return text.replace("phase: Running", 'phase: Running, conditions: [{type: Ready, status: "True"}]')


def test_devices_are_told_by_what_they_do() -> None:
    text = (
        node("a", usable="nvidia.com/gpu: 7", labels=LABEL)
        + node("b", spec="{unschedulable: true}", labels=LABEL)
        + ready(pod("works", "nvidia.com/gpu: 2", on="a"))
        + pod("starts", "nvidia.com/gpu: 1", on="a")
        + ready(pod("idles", "nvidia.com/gpu: 1", on="a"))
    )
    idle = Note(ObjectRef("Pod", "ml", "idles"), "gpu.idle-held", "")
    found = reported(text, (idle,))
    assert found.uses == {
        "working": Share(2.0, 6.0),
        "not ready": Share(1.0, 3.0),
        "idle": Share(1.0, 3.0),
        "free": Share(3.0, 9.0),
        "stranded": Share(),
        "closed": Share(8.0, 24.0),
        "sick": Share(1.0, 3.0),
    }
    assert found.teams["vision"] == {"working": Share(2.0, 6.0), "not ready": Share(1.0, 3.0), "idle": Share(1.0, 3.0)}
    assert [(loss.use, str(loss.object)) for loss in found.losses] == [
        ("closed", "Node/b"),
        ("idle", "Pod/ml/idles"),
        ("not ready", "Pod/ml/starts"),
        ("sick", "Node/a"),
    ]
    assert found.losses[0] == Loss("closed", ObjectRef("Node", None, "b"), NOBODY, Share(8.0, 24.0))


def test_stranded_devices_are_a_loss_of_their_node() -> None:
    found = reported(node(labels=LABEL) + pod("wants", "nvidia.com/gpu: 16", on=None, phase="Pending"))
    assert found.uses["stranded"] == Share(8.0, 24.0)
    assert [loss.use for loss in found.losses] == ["stranded"]


def test_a_share_of_a_device_costs_its_share() -> None:
    labels = "{nvidia.com/gpu.product: H100, nvidia.com/gpu.replicas: '4', nvidia.com/gpu.sharing-strategy: mps, nvidia.com/gpu.count: '2'}"
    found = reported(node(labels=labels) + ready(pod("a", "nvidia.com/gpu: 1")))
    assert found.uses["working"] == Share(0.25, 0.75)
    assert found.uses["free"] == Share(1.75, 5.25)


def test_what_has_no_price_is_counted_and_named() -> None:
    found = reported(node(labels=LABEL) + ready(pod("a", "nvidia.com/gpu: 1")), prices={})
    assert found.uses["working"] == Share(1.0, None)
    assert found.unpriced == ("NVIDIA-H100-80GB-HBM3",)


def test_cores_are_not_paid_twice() -> None:
    found = reported(node(devices="aws.amazon.com/neuron: 16, aws.amazon.com/neuroncore: 32"), prices={"aws.amazon.com/*": 1.0})
    assert found.uses["free"] == Share(16.0, 16.0)


def test_a_namespace_without_a_team_stands_for_itself() -> None:
    assert list(reported(node(labels=LABEL) + ready(pod("a", "nvidia.com/gpu: 1")), teams={}).teams) == [NOBODY, "ml"]


@pytest.mark.parametrize(
    ("devices", "price"), [("nvidia.com/mig-1g.10gb: 7", 0.5), ("nvidia.com/mig-3g.40gb: 2", None), ("nvidia.com/gpu: 8", None)]
)
def test_a_price_is_found_by_resource_where_the_product_has_none(devices: str, price: float | None) -> None:
    assert price_of(PRICES)(only(node(devices=devices))) == price
