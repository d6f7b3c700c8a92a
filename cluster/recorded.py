"""The reading interface over a recording: a folder with `objects.yaml`, `logs/` and optional telemetry files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from cluster.errors import RecordingError
from cluster.facts.meta import Fact
from cluster.kinds import BY_NAME, Kind
from cluster.reading import Cost, LogText, MetricQuery, Missing, Reading, Series, Why
from cluster.reference import ContainerRef, Scope, Window
from cluster.telemetry import Telemetry

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _pruned(value: Any) -> Any:
    """Without nulls: YAML recordings write `labels: null` where an API server leaves the field out."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value


class RecordedReader:
    """Answers from a recording. A kind counts as read when the recording holds at least one object of it."""

    def __init__(self, folder: Path, now: datetime, objects: dict[str, tuple[Fact, ...]], cluster: str = "recording") -> None:
        self._folder = folder
        self._now = now
        self._objects = objects
        self.cluster = cluster

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> RecordedReader:
        path = folder / "objects.yaml"
        try:
            document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a safe loader, in C where it is built)
        except (OSError, yaml.YAMLError) as error:
            raise RecordingError(f"cannot read {path}: {error}. Record it again with 'smokejumper record'.") from error
        grouped: dict[str, list[Fact]] = {}
        for item in document.get("items") or ():
            kind = BY_NAME.get(item.get("kind", ""))
            if kind is not None:
                grouped.setdefault(kind.name, []).append(msgspec.convert(_pruned(item), kind.fact, strict=False))
        return cls(folder, now or datetime.now().astimezone(), {name: tuple(facts) for name, facts in grouped.items()})

    def now(self) -> datetime:
        return self._now

    async def objects(self, kind: Kind, scope: Scope, name: str | None = None) -> Reading[tuple[Fact, ...]]:
        if kind.name not in self._objects:
            missing = Missing(f"{kind.plural} in this recording", Why.NO_SOURCE, kind=kind.name)
            return Reading((), (missing,))
        found = tuple(fact for fact in self._objects[kind.name] if scope.includes(fact.namespace) and (name is None or fact.name == name))
        return Reading(found, (), Cost(requests=1))

    async def logs(self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None) -> Reading[LogText]:
        stem = f"{container.namespace}__{container.pod}__{container.container}"
        path = self._folder / "logs" / (f"{stem}.previous.log" if previous else f"{stem}.log")
        if not path.exists():
            return Reading(LogText(), (Missing(f"log of {container}", Why.NO_SOURCE),))
        return Reading(LogText(tuple(path.read_text(encoding="utf-8", errors="replace")[-limit_bytes:].splitlines())))

    async def metric(self, query: MetricQuery, window: Window) -> Reading[tuple[Series, ...]]:
        return Reading((), (Missing("metrics in this recording", Why.NO_SOURCE),))

    async def telemetry(self, scope: Scope) -> Reading[Telemetry]:
        return Reading(Telemetry(), (Missing("telemetry in this recording", Why.NO_SOURCE),))
