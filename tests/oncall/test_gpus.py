"""`smokejumper gpus` over recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oncall.cli import run

ROOT = Path(__file__).parent.parent.parent
ROLLOUT = str(ROOT / "examples" / "serve-rollout")
FULL = str(ROOT / "tests" / "recordings" / "insufficient-gpu")


def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    code = run(["--state", str(tmp_path), "gpus", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_who_holds_what_on_which_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, tmp_path, "--recording", ROLLOUT)
    assert code == 0
    assert "16 accelerators, 4 held, 12 free, 0 sick" in out
    [row] = [line for line in out.splitlines() if line.startswith("gpu-0")]
    assert "NVIDIA-H100-80GB-HBM3" in row
    assert "2 Deployment/ml/serve" in row


NODE = """
---
apiVersion: v1
kind: Node
metadata: {name: %s}
spec: {}
status:
  capacity: {nvidia.com/gpu: "8"}
  allocatable: {nvidia.com/gpu: "%d"}
  conditions: [{type: Ready, status: "True"}, {type: GpuMemWatch, status: "%s", reason: r, message: double bit error}]
"""


def test_each_state_is_explained_and_a_fault_that_nobody_withdrew_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    nodes = (("well", 8, "False"), ("doubted", 8, "True"), ("withdrawn", 6, "False"))
    (folder / "objects.yaml").write_text("".join(NODE % one for one in nodes))
    (folder / "recording.yaml").write_text("kinds_read: [Node, Pod]\n")
    _, out, _ = said(capsys, tmp_path, "--recording", str(folder))
    rows = [line.split() for line in out.splitlines()]
    assert [(row[0], row[2]) for row in rows if len(row) > 2 and row[1] == "nvidia.com/gpu"] == [
        ("withdrawn", "sick"),
        ("doubted", "suspect"),
        ("well", "free"),
    ]
    assert "suspect: a fault of a device is reported, and it is still handed out" in out
    assert "stranded:" not in out
    _, only, _ = said(capsys, tmp_path, "--recording", str(folder), "--state", "suspect", "-o", "json")
    assert [(offer["node"], offer["state"]) for offer in json.loads(only)["offers"]] == [("doubted", "suspect")]


def test_by_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, tmp_path, "--recording", FULL, "--by-workload")
    [row] = [line.split() for line in out.splitlines() if "Deployment/training/finetune" in line]
    assert row[:3] == ["16", "Deployment/training/finetune", "2"]


def test_programs_get_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, tmp_path, "--recording", FULL, "--node", "gpu-1", "-o", "json")
    document = json.loads(out)
    assert document["total"] == {"capacity": 8, "held": 8, "free": 0, "sick": 0, "closed": 0, "stranded": 0}
    [offer] = document["offers"]
    assert (offer["node"], offer["state"], offer["holders"][0]["count"]) == ("gpu-1", "held", 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--state", "broken"], "none of sick, suspect, stranded"),
        (["-o", "yaml"], "neither text nor json"),
        (["--watch", "--recording", ROLLOUT], "follows a live cluster"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path, *arguments)
    assert code == 2
    assert words in err


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_node_of_which_nothing_is_known_is_an_error_with_the_nearest(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, tmp_path, "--recording", ROLLOUT, "--node", "gpu-00", "-o", form)
    assert (code, out) == (2, "")
    assert err == "error: no node 'gpu-00' with accelerators; nearest nodes with accelerators: gpu-0, gpu-1.\n"


def test_a_node_is_not_said_to_be_unknown_without_what_hides_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "objects.yaml").write_text("kind: List\nitems: []\n")
    (blind / "recording.yaml").write_text(
        "kinds_read: [Pod]\nmissing: [{what: nodes, why: forbidden, kind: Node, next_step: Grant list on nodes.}]\n"
    )
    code, _, err = said(capsys, tmp_path, "--recording", str(blind), "--node", "gpu-0")
    assert code == 2
    assert "cannot see: nodes (forbidden) — Grant list on nodes." in err


@pytest.mark.parametrize("command", [("gpus",), ("cost",), ("why", "slow", "serve", "-n", "ml")])
def test_the_context_is_named_as_everywhere_else(command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["--state", str(tmp_path), "--kubeconfig", str(tmp_path / "none"), *command, "--context", "somewhere"])
    assert code == 2
    assert "No such option" not in capsys.readouterr().err


def test_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOKEJUMPER_PRICES__PER_DEVICE_HOUR", '{"*H100*": 2.5}')
    monkeypatch.setenv("SMOKEJUMPER_PRICES__CURRENCY", "EUR")
    assert run(["--state", str(tmp_path), "cost", "--recording", ROLLOUT]) == 0
    out = capsys.readouterr().out
    assert "working    3 devices, 7.50 EUR" in out
    assert "ml: working 3 devices, 7.50 EUR; not ready 1 device, 2.50 EUR" in out
    assert run(["--state", str(tmp_path), "cost", "--recording", ROLLOUT, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["currency"] == "EUR"
    assert document["uses"]["free"] == {"devices": 12.0, "price": 30.0}


def test_no_price_is_made_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(tmp_path), "cost", "--recording", ROLLOUT]) == 0
    out = capsys.readouterr().out
    assert "USD" not in out
    assert "without a price: NVIDIA-H100-80GB-HBM3. Set prices.per_device_hour." in out
