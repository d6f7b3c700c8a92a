"""The workbench of the tests that change the lab, and nodes to change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.api import wait_for
from tests.lab.granting import granted as executor_granted
from tests.lab.lab import Lab
from tests.oncall.actions.bench import NODE_LABEL, WAIT_SECONDS, Bench


@pytest.fixture(scope="module")
def granted(lab: Lab) -> Iterator[None]:
    """The user `executor` holds the role that we print."""
    with executor_granted(lab):
        yield


@pytest.fixture
def bench(lab: Lab, granted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with lab.namespace("act") as space:
        bench = Bench(lab, tmp_path / "state", capsys, monkeypatch, space)
        yield bench
        code, out, err = bench.say("audit", "verify")
        assert code == 0, out + err


@pytest.fixture
def nodes(bench: Bench) -> Iterator[tuple[str, str]]:
    """Two nodes of the test's own, which only its pods tolerate."""
    names = (f"{bench.space}-a", f"{bench.space}-b")
    for name in names:
        labels = {NODE_LABEL: bench.space, "lab.smokejumper.dev/kubelet": "played", "lab.smokejumper.dev/machine": "cpu"}
        mig = {"nvidia.com/mig.capable": "true", "nvidia.com/mig.config": "all-disabled"}
        taint = {"key": NODE_LABEL, "value": bench.space, "effect": "NoSchedule"}
        bench.apply("v1", "Node", name, metadata={"labels": {**labels, **mig, "kubernetes.io/hostname": name}}, spec={"taints": [taint]})
    for name in names:
        wait_for(f"{name} ready", partial(_is_ready, bench, name), WAIT_SECONDS)
    yield names
    for name in names:
        bench.client.delete("v1", "Node", name)


def _is_ready(bench: Bench, name: str) -> bool:
    node = bench.get("v1", "Node", name, cluster_wide=True)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))
    return ready and not any("not-ready" in taint["key"] for taint in node["spec"].get("taints", ()))
