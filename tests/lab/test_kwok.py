"""Stage files become a configuration in which nothing is left of our shorthands."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.lab import cluster, kwok


def _parts(tmp_path: Path) -> list[dict[str, object]]:
    return [part for part in yaml.safe_load_all(kwok.configuration(cluster.HERE / "stages", tmp_path)) if part]


def test_shorthands_are_expanded(tmp_path: Path) -> None:
    text = kwok.configuration(cluster.HERE / "stages", tmp_path)
    assert "@include" not in text
    assert "@CONTAINER_LOGS@" not in text
    assert "kubeletEvent" not in text


def test_every_stage_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = [part["metadata"]["name"] for part in _parts(tmp_path) if part["kind"] == "Stage"]  # type: ignore[index]
    assert len(names) == len(set(names)) > 10


def test_every_shared_piece_is_used() -> None:
    folder = cluster.HERE / "stages"
    text = kwok.EVENT_TEMPLATE + "".join(path.read_text("utf-8") for path in folder.glob("*.yaml"))
    unused = [path.name for path in folder.iterdir() if path.suffix != ".yaml" and f"@include {path.name}" not in text]
    assert not unused
