"""The reading interface over a recording: a folder that `smokejumper record` made, or what other tools leave behind.

Understood are our bundle (`objects.yaml`, `logs/`, `recording.yaml`, telemetry files), one YAML or JSON file as `kubectl get -o yaml`
prints it, and the folder of `kubectl cluster-info dump`. A recording is data from elsewhere: it is bounded before it is parsed, an
object of a wrong shape is named as missing and the rest is used, and Secrets in it are never read. What was not recorded is
missing, never absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cluster.errors import RecordingError, RefusedReadError
from cluster.facts.event import CustomObject
from cluster.facts.meta import Fact
from cluster.facts.pod import Pod
from cluster.kinds import BY_NAME, Kind, find_kind
from cluster.logfiles import LogIndex, is_own, scan
from cluster.logtext import shape_log
from cluster.manifest import Manifest, read_manifest
from cluster.objectfiles import is_ours, object_files, objects_in, read_bytes
from cluster.rawobject import lenient, pruned, tidy
from cluster.reading import Cost, LogText, MetricQuery, Missing, Reading, Series, Why
from cluster.reference import ContainerRef, Scope, Window
from cluster.response import malformed
from cluster.seriesfile import matching, read_series
from cluster.telemetry import Telemetry, read_alerts, read_connectivity, read_dependencies, read_node_services
from cluster.timestamps import parse_time
from cluster.yamltext import load_documents

if TYPE_CHECKING:
    from cluster.loki import Loki
    from cluster.prometheus import Prometheus

NAME_LIMIT = 253
NAMESPACES_SHOWN = 5
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_MOMENTS = frozenset(
    {
        "creationTimestamp", "firstTimestamp", "lastTimestamp", "eventTime", "lastObservedTime", "lastTransitionTime", "lastUpdateTime",
        "lastHeartbeatTime", "lastProbeTime", "startedAt", "finishedAt", "startTime", "completionTime", "lastScheduleTime", "renewTime",
    }
)  # fmt: skip

Object = dict[str, Any]
T = TypeVar("T")


class RecordedReader:
    """Answers from a recording. Without a manifest, a kind counts as read when the recording holds at least one object of it."""

    def __init__(
        self,
        folder: Path,
        objects: dict[str, list[Object]],
        manifest: Manifest,
        now: datetime,
        complaints: tuple[str, ...],
        prometheus: Prometheus | None = None,
        loki: Loki | None = None,
    ) -> None:
        self.cluster = manifest.cluster or "recording"
        self._folder = folder
        self._objects = objects
        self._manifest = manifest
        self._now = now
        self._complaints = complaints
        self._prometheus = prometheus
        self._loki = loki
        self._facts: dict[str, tuple[tuple[Fact, ...], tuple[Missing, ...]]] = {}

    @classmethod
    def open(
        cls, folder: Path, now: datetime | None = None, prometheus: Prometheus | None = None, loki: Loki | None = None
    ) -> RecordedReader:
        """Reads and parses the objects. `now` overrides the recording's clock. RecordingError says what to do when it is no recording.

        With a Prometheus and a Loki that still hold the time of the recording, its metrics, and logs that were not recorded, are asked
        as of the recording's clock.
        """
        if not folder.exists():
            raise RecordingError(f"there is no recording at {folder}. Make one with 'smokejumper record -o DIR'.")
        base = folder if folder.is_dir() else folder.parent
        manifest = read_manifest(base) if folder.is_dir() else Manifest()
        grouped: dict[str, dict[tuple[str | None, str], Object]] = {}
        complaints: list[str] = []
        count = 0
        for path in object_files(folder):
            for item, listed_kind in objects_in(load_documents(read_bytes(path), str(path))):
                count += 1
                named = _named(item, listed_kind)
                if named is None:
                    complaints.append(f"an entry of {path.name} is no Kubernetes object")
                    continue
                kind, namespace, name = named
                grouped.setdefault(kind, {})[namespace, name] = item
        if not grouped and (complaints or folder.is_file()) and not is_ours(folder):
            raise RecordingError(
                f"{folder} is no recording: nothing in it is a Kubernetes object. Name the folder of one, or a file that "
                "'kubectl get -o yaml' wrote, or make one with 'smokejumper record -o DIR'."
            )
        if manifest.objects is not None and count < manifest.objects:
            complaints.append(f"{count} of the {manifest.objects} objects that were recorded are left")
        grouped.pop("Secret", None)
        # By namespace and name, as an API server lists them, so that the order of a file cannot change what is said.
        objects = {kind: [items[key] for key in sorted(items, key=_place)] for kind, items in sorted(grouped.items())}
        moment = now or manifest.now or _newest(objects) or datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        reader = cls(base, objects, manifest, moment, tuple(complaints), prometheus, loki)
        reader._require_one_usable(folder)
        return reader

    async def __aenter__(self) -> RecordedReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is held open."""

    def now(self) -> datetime:
        return self._now

    async def objects(self, kind: Kind, scope: Scope, name: str | None = None) -> Reading[tuple[Fact, ...]]:
        facts, missing = self._facts_of(kind)
        gaps = (*self._not_recorded(kind, scope), *(item for item in missing if scope.includes(item.namespace)))
        found = tuple(fact for fact in facts if scope.includes(fact.namespace) and (name is None or fact.name == name))
        return Reading(found, gaps, Cost(requests=1))

    async def find_kind(self, word: str) -> Kind | None:
        """The kind a person means, also a custom one that the recording holds. Never Secret."""
        known = find_kind(word)
        if known is not None:
            return known
        name = word.lower().partition(".")[0]
        held = next((kind for kind in sorted(self._objects) if name in (kind.lower(), f"{kind.lower()}s")), None)
        return _custom_kind(held, self._objects[held]) if held else None

    async def raw(self, kind: Kind, namespace: str | None, name: str) -> Object | Missing:
        """One whole object as it was recorded. RefusedReadError for a Secret."""
        if kind.plural == "secrets" and not kind.group:
            raise RefusedReadError("Smokejumper reads no Secrets, also not recorded ones.")
        for item in self.raw_objects(kind.name):
            if item["metadata"]["name"] == name and (not kind.namespaced or item["metadata"].get("namespace") == namespace):
                return item
        what = f"{kind.name} {namespace}/{name}" if namespace else f"{kind.name} {name}"
        return Missing(what, Why.NOT_FOUND, "the recording has no such object", kind=kind.name, namespace=namespace)

    async def documents(self, kind: Kind, scope: Scope) -> Reading[tuple[Object, ...]]:
        """All objects of a kind, whole."""
        found = tuple(item for item in self.raw_objects(kind.name) if scope.includes(item["metadata"].get("namespace")))
        return Reading(found, self._not_recorded(kind, scope), Cost(requests=1))

    def holds(self, kind: str) -> bool:
        """Whether that kind was recorded at all."""
        return kind in self._objects or kind in self._manifest.kinds_read

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those that were recorded; empty means all."""
        return self._manifest.namespaces

    @property
    def size(self) -> int:
        """How many objects were recorded, of all kinds."""
        return sum(len(items) for items in self._objects.values())

    def raw_objects(self, kind: str) -> Iterator[Object]:
        """Every recorded object of a kind, whole."""
        for item in self._objects.get(kind, ()):
            yield tidy({"apiVersion": BY_NAME[kind].api_version if kind in BY_NAME else "", "kind": kind, **item})

    async def logs(self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None) -> Reading[LogText]:
        """The tail that was recorded. `since` is ignored: recorded lines carry no times of their own."""
        path = self._log_index.find(container, previous=previous)
        what = f"{'previous ' if previous else ''}log of {container}"
        if path is None and self._loki is not None:
            return await self._loki.logs(container, self._now, previous=previous, limit_bytes=limit_bytes, since=since)
        if path is None:
            return Reading(LogText(), (Missing(what, Why.NO_SOURCE, "it was not recorded", kind="Pod", namespace=container.namespace),))
        try:
            content = _tail(path, limit_bytes + 1)
        except OSError as error:
            return Reading(LogText(), (Missing(what, Why.MALFORMED, str(error), kind="Pod", namespace=container.namespace),))
        return Reading(shape_log(content, limit_bytes), (), Cost(1, len(content)))

    async def metric(self, query: MetricQuery, window: Window) -> Reading[tuple[Series, ...]]:
        """Recorded series by name and labels; whatever was not recorded, and every expression, is asked of the Prometheus."""
        series, missing = self._series
        found = matching(series, query.name, dict(query.labels)) if query.name and not query.expression else ()
        found = tuple(item for item in found if not query.namespaces or item.labels.get("namespace") in (*query.namespaces, None))
        if not found and self._prometheus is not None:
            return await self._prometheus.metric(query, window)
        if query.expression or not query.name:
            return Reading((), (Missing("metrics", Why.NO_SOURCE, "a recording evaluates no PromQL", "Add --prometheus URL."),))
        if not series:
            return Reading((), missing or (Missing(f"metric {query.name}", Why.NO_SOURCE, "no metrics were recorded"),))
        if not found:
            return Reading((), (Missing(f"metric {query.name}", Why.NOT_FOUND, "no such series was recorded"),))
        inside = (Series(s.labels, tuple(x for x in s.samples if window.start <= x.at <= window.end)) for s in found)
        return Reading(tuple(item for item in inside if item.samples), missing, Cost(requests=1))

    async def telemetry(self, scope: Scope) -> Reading[Telemetry]:
        series, missing = self._series
        gaps = list(missing)
        telemetry = Telemetry(
            alerts=self._side_file("alerts.json", read_alerts, gaps),
            series=series,
            node_services=self._side_file("node_services.json", read_node_services, gaps),
            connectivity=self._side_file("connectivity.json", read_connectivity, gaps),
            dependencies=self._side_file("dependencies.json", read_dependencies, gaps),
        )
        if self._prometheus is not None:
            asked = await self._prometheus.telemetry(scope, self._now)
            both = msgspec.structs.replace(
                telemetry, alerts=(*telemetry.alerts, *asked.value.alerts), series=(*telemetry.series, *asked.value.series)
            )
            return Reading(both, (*gaps, *asked.missing), Cost(requests=1) + asked.cost)
        if telemetry == Telemetry() and not gaps:
            gaps.append(Missing("alerts and measurements", Why.NO_SOURCE, "none were recorded"))
        return Reading(telemetry, tuple(gaps), Cost(requests=1))

    def _facts_of(self, kind: Kind) -> tuple[tuple[Fact, ...], tuple[Missing, ...]]:
        """The facts of a kind, decoded when first asked for."""
        if kind.name in self._facts:
            return self._facts[kind.name]
        facts: list[Fact] = []
        complaints: dict[str | None, list[str]] = {}
        for item in self._objects.get(kind.name, ()):
            try:
                facts.append(_fact(item, kind))
            except msgspec.ValidationError as error:
                metadata = item["metadata"]
                complaints.setdefault(metadata.get("namespace"), []).append(f"{metadata['name']}: {error}")
        missing = [gap for ns, said in complaints.items() for gap in malformed(said, f"{kind.plural} in this recording", kind, ns)]
        self._facts[kind.name] = (tuple(facts), tuple(missing))
        return self._facts[kind.name]

    def _require_one_usable(self, folder: Path) -> None:
        """RecordingError where there are objects and none has the shape of its kind: there is nothing that a diagnosis could rest on."""
        told: list[Missing] = []
        for name, items in self._objects.items():
            facts, missing = self._facts_of(BY_NAME.get(name) or _custom_kind(name, items))
            if facts:
                return
            told += missing
        if told:
            raise RecordingError(
                f"nothing in {folder} can be used: none of its {self.size} objects has the shape of its kind ({told[0].detail}). Record it "
                "again, or name a file that 'kubectl get -o yaml' wrote."
            )

    def _not_recorded(self, kind: Kind, scope: Scope) -> tuple[Missing, ...]:
        """Why an object that is not here may exist all the same: its kind or its namespace was not recorded, or could not be read."""
        gaps = [gap for gap in self._manifest.missing if gap.kind == kind.name and scope.includes(gap.namespace)]
        if not self.holds(kind.name) and not gaps:
            gaps.append(Missing(f"{kind.plural} in this recording", Why.NO_SOURCE, "the kind was not recorded", kind=kind.name))
        if kind.namespaced and self._manifest.namespaces:
            outside = [name for name in scope.namespaces if name not in self._manifest.namespaces]
            gaps += (Missing(f"{kind.plural} in {n}", Why.NO_SOURCE, "the namespace was not recorded", "", kind.name, n) for n in outside)
            if not scope.namespaces:
                elsewhere = f"{kind.plural} of other namespaces"
                gaps.append(
                    Missing(elsewhere, Why.NO_SOURCE, f"other namespaces than {_listed(self.namespaces)} were not recorded", "", kind.name)
                )
        if self._complaints:
            more = f", and {len(self._complaints) - 1} more complaints" if len(self._complaints) > 1 else ""
            shown = f"{self._complaints[-1]}{more}"
            gaps.append(Missing(f"some {kind.plural} of this recording", Why.MALFORMED, shown, "Record it again.", kind.name))
        return tuple(gaps)

    @cached_property
    def _log_index(self) -> LogIndex:
        pods, _ = self._facts_of(BY_NAME["Pod"])
        return LogIndex(scan(self._folder), (pod for pod in pods if isinstance(pod, Pod)), self._workloads(pods))

    def _workloads(self, pods: Iterable[Fact]) -> dict[tuple[str, str], frozenset[str]]:
        """The names above each pod: its owners and theirs, from the recorded owner references."""
        owners: dict[tuple[str | None, str, str], list[tuple[str, str]]] = {}
        for kind in ("Pod", "ReplicaSet", "Job"):
            for fact in self._facts_of(BY_NAME[kind])[0]:
                above = fact.metadata.owner_references or ()
                owners[fact.namespace, kind, fact.name] = [(owner.kind, owner.name) for owner in above]
        names: dict[tuple[str, str], frozenset[str]] = {}
        for pod in pods:
            chain: set[str] = set()
            level = [("Pod", pod.name)]
            for _ in range(3):
                level = [above for kind, name in level for above in owners.get((pod.namespace, kind, name), ())]
                chain.update(name for _, name in level)
            names[pod.namespace or "", pod.name] = frozenset(chain)
        return names

    @cached_property
    def _series(self) -> tuple[tuple[Series, ...], tuple[Missing, ...]]:
        path = self._folder / "metrics.csv"
        if not is_own(path, self._folder):
            return (), ()
        try:
            series, skipped = read_series(read_bytes(path).decode("utf-8", "replace"))
        except RecordingError as error:
            return (), (Missing("metrics of this recording", Why.MALFORMED, str(error)),)
        return series, (Missing("some of metrics.csv", Why.MALFORMED, skipped),) if skipped else ()

    def _side_file(self, name: str, read: Callable[[Any], tuple[T, ...]], gaps: list[Missing]) -> tuple[T, ...]:
        path = self._folder / name
        if not is_own(path, self._folder):
            return ()
        try:
            documents = load_documents(read_bytes(path), name)
        except RecordingError as error:
            gaps.append(Missing(name, Why.MALFORMED, str(error)))
            return ()
        return tuple(item for document in documents for item in read(document))


def _listed(namespaces: tuple[str, ...]) -> str:
    more = f" and {len(namespaces) - NAMESPACES_SHOWN} more" if len(namespaces) > NAMESPACES_SHOWN else ""
    return ", ".join(namespaces[:NAMESPACES_SHOWN]) + more


def _named(item: Any, listed_kind: str | None) -> tuple[str, str | None, str] | None:
    """(kind, namespace, name) of an entry; None when it is no object, or is called what no API server would let it be called."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        return None
    kind, name, namespace = item.get("kind") or listed_kind, metadata.get("name"), metadata.get("namespace")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or not isinstance(name, str) or not _is_path_segment(name):
        return None
    if isinstance(namespace, str) and namespace and not _is_path_segment(namespace):
        return None
    return kind, namespace if isinstance(namespace, str) else None, name


def _is_path_segment(name: str) -> bool:
    # What every kind refuses (apimachinery, pkg/api/validation/path, IsValidPathSegmentName), and what would not print as it is.
    return 0 < len(name) <= NAME_LIMIT and name not in (".", "..") and "/" not in name and "%" not in name and name.isprintable()


def _fact(item: Object, kind: Kind) -> Fact:
    """One object as a fact. Hand-made recordings write numbers where the API has text; then those are tried as text."""
    whole = {"kind": kind.name, "apiVersion": kind.api_version, **item} if kind.fact is CustomObject else item
    whole = pruned(whole)
    try:
        return msgspec.convert(whole, kind.fact, strict=False)
    except msgspec.ValidationError:
        return msgspec.convert(lenient(whole), kind.fact, strict=False)


def _place(key: tuple[str | None, str]) -> tuple[str, str]:
    return (key[0] or "", key[1])


def _custom_kind(name: str, items: list[Object]) -> Kind:
    group, _, version = str(items[0].get("apiVersion", "v1")).rpartition("/")
    namespaced = any(item["metadata"].get("namespace") for item in items)
    return Kind(name, group, version, f"{name.lower()}s", namespaced, CustomObject)


def _tail(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - limit_bytes))
        return file.read(limit_bytes)


def _newest(objects: dict[str, list[Object]]) -> datetime | None:
    """The newest moment at which something was seen to happen: the recording was made soon after it."""
    seen: list[str] = []
    stack: list[Any] = [item for items in objects.values() for item in items]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if inner.__class__ is str:
                    if key in _MOMENTS:
                        seen.append(inner)
                elif inner.__class__ is dict or inner.__class__ is list:
                    stack.append(inner)
        elif isinstance(value, list):
            stack.extend(item for item in value if item.__class__ is dict or item.__class__ is list)
    moments = sorted(moment for text in set(seen) if (moment := parse_time(text)) is not None)
    return moments[-1] if moments else None
