"""Which file is the log of a container, by every way of naming seen in the wild."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.facts.container import Container
from cluster.facts.meta import Metadata
from cluster.facts.pod import Pod, PodSpec
from cluster.logfiles import LogIndex, scan
from cluster.reference import ContainerRef


def pod(name: str, *containers: str) -> Pod:
    return Pod(metadata=Metadata(name=name, namespace="ml"), spec=PodSpec(containers=tuple(Container(name=item) for item in containers)))


def find(folder: Path, container: str, *files: str, previous: bool = False, pods: tuple[Pod, ...] | None = None) -> str | None:
    """The file found for a container of the pod web-1, which belongs to the ReplicaSet web-7f and the Deployment web."""
    (folder / "logs").mkdir()
    for file in files:
        (folder / "logs" / file).write_text("x")
    known = (pod("web-1", "app", "proxy"),) if pods is None else pods
    index = LogIndex(scan(folder), known, {("ml", "web-1"): frozenset({"web-7f", "web"})})
    found = index.find(ContainerRef("ml", "web-1", container), previous=previous)
    return found.name if found else None


@pytest.mark.parametrize(
    ("files", "container", "found"),
    [
        (("ml__web-1__app.log",), "app", "ml__web-1__app.log"),
        (("ml__web-1__app.log",), "proxy", None),
        (("ml__web-1__all.log",), "app", "ml__web-1__all.log"),
        (("ml__web-1__all.log",), "proxy", None),
        (("ml__web-1__app.log", "ml__web-1__all.log"), "app", "ml__web-1__app.log"),
        (("ml__web-1__proxy.log",), "app", None),
        (("ml__web-1.log",), "app", "ml__web-1.log"),
        (("ml__web__server.log",), "app", "ml__web__server.log"),
        (("ml__web__server.log",), "proxy", "ml__web__server.log"),
        (("ml__web__proxy.log",), "proxy", "ml__web__proxy.log"),
        (("ml__web__proxy.log",), "app", None),
        (("ml__web-7f.log",), "app", "ml__web-7f.log"),
        (("other__web-1__app.log",), "app", None),
        (("ml__web-2__app.log",), "app", None),
        (("notes.log", "ml____app.log", "ml__web-1__app.txt"), "app", None),
    ],
)
def test_current_logs(tmp_path: Path, files: tuple[str, ...], container: str, found: str | None) -> None:
    assert find(tmp_path, container, *files) == found


@pytest.mark.parametrize("name", ["ml__web-1__app.previous.log", "ml__web-1__app-previous.log", "ml__web-1__all.previous.log"])
def test_previous_logs(tmp_path: Path, name: str) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    assert find(tmp_path / "a", "app", name, previous=True) == name
    assert find(tmp_path / "b", "app", name) is None


def test_the_current_log_is_not_the_previous_one(tmp_path: Path) -> None:
    assert find(tmp_path, "app", "ml__web-1__app.log", previous=True) is None


def test_a_container_that_is_called_previous(tmp_path: Path) -> None:
    assert find(tmp_path, "app-previous", "ml__web-1__app-previous.log", pods=(pod("web-1", "app", "app-previous"),)) is not None
    (tmp_path / "b").mkdir()
    name = "ml__web-1__app-previous.log"
    assert find(tmp_path / "b", "app", name, previous=True, pods=(pod("web-1", "app", "app-previous"),)) is None


def test_a_pod_that_was_not_recorded_gets_what_bears_its_name(tmp_path: Path) -> None:
    assert find(tmp_path, "app", "ml__web-1__main.log", pods=()) == "ml__web-1__main.log"


def test_a_log_of_a_pod_is_not_the_log_of_a_workload_of_that_name(tmp_path: Path) -> None:
    assert find(tmp_path, "app", "ml__web__main.log", pods=(pod("web-1", "app"), pod("web", "main"))) is None


def test_no_logs_folder(tmp_path: Path) -> None:
    assert scan(tmp_path) == ()


def test_a_link_out_of_the_recording_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("private")
    folder = tmp_path / "recording"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "ml__web-1__app.log").symlink_to(tmp_path / "mine")
    (folder / "logs" / "ml__web-1__proxy.log").mkdir()
    (folder / "ml" / "web-1").mkdir(parents=True)
    (folder / "ml" / "web-1" / "logs.txt").symlink_to(tmp_path / "mine")
    assert scan(folder) == ()
    (folder / "kept").write_text("x")
    (folder / "logs" / "ml__web-2__app.log").symlink_to(folder / "kept")
    assert [file.owner for file in scan(folder)] == ["web-2"]
