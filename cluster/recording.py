"""Writes a recording: everything a diagnosis reads of a cluster, as a folder that can be looked at, passed on and opened again.

Redacted on the way to the disk, never afterwards; no Secret is asked for. The folder appears whole or not at all. Logs are taken
only of pods that are not plainly healthy, because those are what a diagnosis would ask for, and bounded in number and size.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec
import yaml
from msgspec import Struct

from cluster.errors import RecordingError
from cluster.facts.pod import Pod
from cluster.kinds import CUSTOM_KINDS, KINDS, Kind
from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES, Manifest
from cluster.rawobject import pruned
from cluster.reading import Cost, LogText, Missing, Reading, Why
from cluster.reference import ContainerRef, Scope
from guardrails.redact import redact_object

LOG_BYTES = 64 * 1024
PODS_WITH_LOGS_LIMIT = 200
CONCURRENT_READS = 8

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class DocumentReader(Protocol):
    """A reader that also gives whole objects: the live one, and a recording (to make a smaller one of it)."""

    @property
    def cluster(self) -> str: ...

    async def documents(self, kind: Kind, scope: Scope) -> Reading[tuple[dict[str, Any], ...]]: ...

    async def logs(
        self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None
    ) -> Reading[LogText]: ...


class Written(Struct, frozen=True):
    """What a recording holds. `missing` is also in its manifest."""

    folder: Path
    objects: int
    logs: int
    missing: tuple[Missing, ...]
    cost: Cost


async def write_recording(reader: DocumentReader, scope: Scope, folder: Path, clock: Callable[[], datetime]) -> Written:
    """Records the scope into `folder`, which must not exist or be empty. RecordingError says why nothing was written."""
    _check_free(folder)
    now = clock()
    kinds = (*KINDS, *CUSTOM_KINDS)
    readings = await _read_all(reader, kinds, scope)
    logs, skipped, log_cost = await _read_logs(reader, _pods(readings["Pod"].value))
    documents = [document for kind in kinds for document in readings[kind.name].value]
    missing = tuple(dict.fromkeys([gap for kind in kinds for gap in readings[kind.name].missing] + skipped))
    read = tuple(kind.name for kind in kinds if readings[kind.name].value or not readings[kind.name].missing)
    manifest = Manifest(
        cluster=reader.cluster, now=now, namespaces=scope.namespaces, kinds_read=read, missing=missing, objects=len(documents)
    )
    # A large scope takes seconds to redact and print; a thread lets the caller's loop answer meanwhile.
    await anyio.to_thread.run_sync(_write, folder, documents, logs, manifest)
    cost = log_cost
    for reading in readings.values():
        cost += reading.cost
    return Written(folder, len(documents), len(logs), missing, cost)


def needs_log(pod: Pod) -> Iterator[tuple[str, bool]]:
    """(container, previous) of the logs worth keeping of a pod; none of one that is plainly healthy."""
    statuses = pod.all_statuses
    if pod.status.phase == "Succeeded" or (pod.status.phase == "Running" and pod.ready and not any(s.restart_count for s in statuses)):
        return
    for status in statuses:
        if status.state.running is not None or status.state.terminated is not None or status.last_state.terminated is not None:
            yield status.name, False
        if status.restart_count and status.last_state.terminated is not None:
            yield status.name, True


def _pods(documents: Iterable[dict[str, Any]]) -> Iterator[Pod]:
    for document in documents:
        try:
            yield msgspec.convert(pruned(document), Pod, strict=False)
        except msgspec.ValidationError:
            # It is recorded as it is and reported as malformed by whoever opens the recording; only its logs are not asked for.
            continue


async def _read_all(reader: DocumentReader, kinds: Iterable[Kind], scope: Scope) -> dict[str, Reading[tuple[dict[str, Any], ...]]]:
    readings: dict[str, Reading[tuple[dict[str, Any], ...]]] = {}
    limiter = anyio.CapacityLimiter(CONCURRENT_READS)

    async def read(kind: Kind) -> None:
        async with limiter:
            readings[kind.name] = await reader.documents(kind, scope)

    async with anyio.create_task_group() as tasks:
        for kind in kinds:
            tasks.start_soon(read, kind)
    return readings


async def _read_logs(
    reader: DocumentReader, pods: Iterable[Pod]
) -> tuple[dict[tuple[ContainerRef, bool], tuple[str, ...]], list[Missing], Cost]:
    logs: dict[tuple[ContainerRef, bool], tuple[str, ...]] = {}
    wanted = [(pod, tuple(needs_log(pod))) for pod in pods]
    sick = [(pod, containers) for pod, containers in wanted if containers]
    costs: list[Cost] = []
    limiter = anyio.CapacityLimiter(CONCURRENT_READS)

    async def read(container: ContainerRef, previous: bool) -> None:
        async with limiter:
            reading = await reader.logs(container, previous=previous, limit_bytes=LOG_BYTES)
            costs.append(reading.cost)
            if reading.value.lines:
                logs[container, previous] = reading.value.lines

    async with anyio.create_task_group() as tasks:
        for pod, containers in sick[:PODS_WITH_LOGS_LIMIT]:
            for name, previous in containers:
                tasks.start_soon(read, ContainerRef(pod.namespace or "", pod.name, name), previous)
    total = Cost()
    for cost in costs:
        total += cost
    left_out = len(sick) - PODS_WITH_LOGS_LIMIT
    detail = f"only the logs of the first {PODS_WITH_LOGS_LIMIT} pods that are not healthy were recorded"
    skipped = [Missing(f"logs of {left_out} pods", Why.TRUNCATED, detail, "Record fewer namespaces.")] if left_out > 0 else []
    return logs, skipped, total


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecordingError(f"{folder} exists and is not empty. Name a new folder; a recording never overwrites.")


def _write(
    folder: Path, documents: list[dict[str, Any]], logs: dict[tuple[ContainerRef, bool], tuple[str, ...]], manifest: Manifest
) -> None:
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        redacted = [redact_object(document) for document in documents]
        _dump(partial / OBJECTS_NAMES[0], {"apiVersion": "v1", "kind": "List", "items": redacted})
        _dump(partial / MANIFEST_NAME, _plain(manifest))
        for (container, previous), lines in logs.items():
            name = f"{container.namespace}__{container.pod}__{container.container}{'.previous' if previous else ''}.log"
            path = partial / "logs" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        # rename(2) replaces an empty folder and nothing else.
        os.rename(partial, folder)  # noqa: PTH104 (Path.rename reads as if it moved files)
    except OSError as error:
        raise RecordingError(
            f"cannot write the recording to {folder}: {error.strerror or error}. Free space, or name another folder."
        ) from error
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial, ignore_errors=True)


def _dump(path: Path, document: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=140)


def _plain(manifest: Manifest) -> Any:
    """The manifest as plain data, empty fields left out."""
    data = msgspec.to_builtins(manifest)
    data["missing"] = [{key: value for key, value in item.items() if value} for item in data["missing"]]
    return {key: value for key, value in data.items() if value}
