"""Which file of a recording's `logs/` folder holds the log of a container.

Ours are `<namespace>__<pod>__<container>.log` and `…__<container>.previous.log`. Others recorded with less: the container part may be
a word that names none (`all`, `server`, `main`), or be left out, and the pod part may name the workload. Such a log is given to the
container it can only mean, and never to a container that has a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from cluster.facts.pod import Pod
from cluster.reference import ContainerRef

SUFFIX = ".log"
_PREVIOUS = (".previous", "-previous")


class LogFile(Struct, frozen=True):
    """One file, as its name reads. `container` None: the name has no such part."""

    path: Path
    namespace: str
    owner: str
    container: str | None
    previous: bool


def scan(folder: Path) -> tuple[LogFile, ...]:
    """The log files of a recording; files whose names do not fit are left out. `kubectl cluster-info dump` writes `NS/POD/logs.txt`."""
    logs = folder / "logs"
    named = (_parse(path) for path in sorted(logs.iterdir()) if path.suffix == SUFFIX and is_own(path, folder)) if logs.is_dir() else ()
    dumps = (path for path in sorted(folder.glob("*/*/logs.txt")) if is_own(path, folder))
    dumped = (LogFile(path, path.parent.parent.name, path.parent.name, None, False) for path in dumps)
    return (*(item for item in named if item is not None), *dumped)


def is_own(path: Path, folder: Path) -> bool:
    """Whether it is a regular file of the recording itself: a link in a recording from elsewhere may point at the reader's own files."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


class LogIndex:
    """Looks up containers. Built from the files and from the pods that the recording knows."""

    def __init__(self, files: Iterable[LogFile], pods: Iterable[Pod], workloads: Mapping[tuple[str, str], frozenset[str]]) -> None:
        """`workloads` gives, by namespace and pod, the names of everything above the pod in its owner chain."""
        self._files: dict[tuple[str, str], list[LogFile]] = {}
        for file in files:
            self._files.setdefault((file.namespace, file.owner), []).append(file)
        self._pods = {(pod.namespace or "", pod.name): pod for pod in pods}
        self._workloads = workloads

    def find(self, container: ContainerRef, *, previous: bool) -> Path | None:
        """The file for a container's current or previous log, or None."""
        key = (container.namespace, container.pod)
        pod = self._pods.get(key)
        known = {item.name for item in pod.spec.all_containers} if pod is not None else set()
        if pod is not None:
            known |= {item.name for item in pod.spec.ephemeral_containers or ()}
        own = self._files.get(key, [])
        # A container may itself be called "x-previous": a name that exists is taken as it stands.
        exact = next((f for f in own if _names(f, container.container, previous, known)), None)
        if exact is not None:
            return exact.path
        of_pod = [f for f in own if f.previous == previous and (f.container is None or f.container not in known)]
        if of_pod and (pod is None or not pod.spec.containers or container.container == pod.spec.containers[0].name):
            return of_pod[0].path
        for name in sorted(self._workloads.get(key, frozenset())):
            shared = self._files.get((container.namespace, name), []) if (container.namespace, name) not in self._pods else []
            matching = [f for f in shared if f.previous == previous]
            for file in matching:
                if file.container == container.container:
                    return file.path
            for file in matching:
                if file.container is None or file.container not in known:
                    return file.path
        return None


def _parse(path: Path) -> LogFile | None:
    parts = path.name.removesuffix(SUFFIX).split("__")
    if len(parts) not in (2, 3) or not all(parts):
        return None
    last = parts[-1]
    marker = next((mark for mark in _PREVIOUS if last.endswith(mark) and last != mark), "")
    parts[-1] = last.removesuffix(marker) if marker else last
    return LogFile(path, parts[0], parts[1], parts[2] if len(parts) == 3 else None, bool(marker))


def _names(file: LogFile, container: str, previous: bool, known: set[str]) -> bool:
    if file.container == container and file.previous == previous:
        return not (file.previous and f"{container}-previous" in known and file.path.name.endswith("-previous.log"))
    return file.previous and not previous and container == f"{file.container}-previous" and container in known
