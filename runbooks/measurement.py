"""What a time series shows: whether it rose, by how much and since when, and which object it is about.

Statistics on medians, because recordings are short and noisy. It knows no thresholds of any fault; those belong to the detectors.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property

from msgspec import Struct

from cluster.facts.network import Service
from cluster.facts.node import Node
from cluster.facts.pod import Pod
from cluster.facts.workload import DaemonSet, Deployment, StatefulSet
from cluster.reading import Sample, Series
from cluster.reference import ObjectRef
from cluster.world import World

NAME_LABEL = "__name__"
SUBJECT_LABEL = "subject"
SHORTEST = 4
_LABELS = (
    "pod",
    "pod_name",
    "kubernetes_pod_name",
    "deployment",
    "statefulset",
    "daemonset",
    "workload",
    "service",
    "destination_workload",
)
# Of node-exporter, whose own pod stands in the label `pod`.
_NODE_METRIC = "node_"
_NODE_LABELS = ("node", "nodename", "kubernetes_node", "Hostname", "host", "instance")
_MORE_LABELS = ("destination_service_name", "app", SUBJECT_LABEL, "container", *_NODE_LABELS)


class Change(Struct, frozen=True):
    """`before` and `now` are medians of the first and the last quarter of the samples; `since` is the first sample past their middle."""

    before: float
    now: float
    since: datetime | None

    @property
    def factor(self) -> float:
        """How many times the earlier level; infinite from zero."""
        if self.before <= 0:
            return float("inf") if self.now > 0 else 1.0
        return self.now / self.before


def change_of(series: Series) -> Change | None:
    """How a gauge changed over its samples; None when there are fewer than SHORTEST."""
    samples = series.samples
    if len(samples) < SHORTEST:
        return None
    quarter = max(1, len(samples) // 4)
    before = statistics.median(item.value for item in samples[:quarter])
    now = statistics.median(item.value for item in samples[-quarter:])
    middle = (before + now) / 2
    crossed = next((item.at for item in samples if item.value > middle), None) if now > before else None
    return Change(before, now, crossed)


def rates(series: Series) -> Series:
    """A counter as increase per second; a reset counts as no increase."""
    pairs = zip(series.samples, series.samples[1:], strict=False)
    found = tuple(
        Sample(late.at, max(late.value - early.value, 0.0) / seconds)
        for early, late in pairs
        if (seconds := (late.at - early.at).total_seconds()) > 0
    )
    return Series(series.labels, found)


def growth(series: Series) -> float:
    """How much a counter grew over its samples; after a reset it grew by what it then says, as Prometheus' `increase` has it."""
    pairs = zip(series.samples, series.samples[1:], strict=False)
    return sum(late.value - early.value if late.value >= early.value else late.value for early, late in pairs)


def is_counter(name: str) -> bool:
    """Whether a metric only ever grows, by the naming rule of Prometheus (https://prometheus.io/docs/practices/naming/)."""
    return name.endswith(("_total", "_count", "_sum"))


def steady_growth(series: Series) -> tuple[float, float] | None:
    """(relative growth over the samples, share of the variance that a straight line explains); None when too short or flat."""
    values = [item.value for item in series.samples]
    if len(values) < 2 * SHORTEST or values[0] <= 0 or min(values) == max(values):
        return None
    times = [(item.at - series.samples[0].at).total_seconds() for item in series.samples]
    return (values[-1] - values[0]) / values[0], statistics.correlation(times, values) ** 2


class Locator:
    """Finds the object that a series or an alert is about, from its labels and the names in the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def locate(self, labels: Mapping[str, str]) -> ObjectRef | None:
        """The Pod, workload or Node that labels name; None when no name fits. A Service stands for the workload that it selects."""
        if labels.get(NAME_LABEL, "").startswith(_NODE_METRIC):
            return self._node(labels)
        namespace = labels.get("namespace") or labels.get("kubernetes_namespace")
        for key in (*_LABELS, *_MORE_LABELS):
            value = labels.get(key)
            found = self.named(value, namespace) if value else None
            if found is not None:
                return found
        return self._by_address.get(labels.get("instance", "").rpartition(":")[0])

    def _node(self, labels: Mapping[str, str]) -> ObjectRef | None:
        """The node by name, by its address, or by the pod that measured it."""
        named = (self.named(value) for key in _NODE_LABELS if (value := labels.get(key)))
        found = next((ref for ref in named if ref is not None and ref.kind == Node.kind), None)
        found = found or self._nodes_by_address.get(labels.get("instance", "").rpartition(":")[0])
        pod = self._world.get(Pod, labels.get("namespace"), labels.get("pod", "")) if found is None else None
        return ObjectRef(Node.kind, None, pod.spec.node_name) if pod is not None and pod.spec.node_name else found

    def named(self, name: str, namespace: str | None = None) -> ObjectRef | None:
        """The object of a name, a pod's or node's port and domain cut off."""
        plain = name.partition(":")[0]
        for candidate in dict.fromkeys((plain, plain.partition(".")[0])):
            refs = [ref for ref in self._by_name.get(candidate, ()) if namespace is None or ref.namespace in (namespace, None)]
            if refs:
                return self._behind(refs[0])
        return None

    def _behind(self, ref: ObjectRef) -> ObjectRef:
        service = self._world.get(Service, ref.namespace, ref.name) if ref.kind == Service.kind else None
        if service is None:
            return ref
        pods = self._world.pods_selected(service.namespace, service.spec.selector or {})
        return self._world.top_owner(pods[0].ref) if pods else ref

    @cached_property
    def _by_address(self) -> dict[str, ObjectRef]:
        """Pods that have an address of their own."""
        return {pod.status.pod_ip: pod.ref for pod in self._world.all(Pod) if pod.status.pod_ip and not pod.spec.host_network}

    @cached_property
    def _nodes_by_address(self) -> dict[str, ObjectRef]:
        pods = (pod for pod in self._world.all(Pod) if pod.status.host_ip and pod.spec.node_name)
        return {pod.status.host_ip or "": ObjectRef(Node.kind, None, pod.spec.node_name or "") for pod in pods}

    @cached_property
    def _by_name(self) -> dict[str, list[ObjectRef]]:
        grouped: dict[str, list[ObjectRef]] = defaultdict(list)
        kinds: tuple[type[Deployment | StatefulSet | DaemonSet | Pod | Service | Node], ...] = (
            Deployment,
            StatefulSet,
            DaemonSet,
            Pod,
            Service,
            Node,
        )
        for kind in kinds:
            for fact in self._world.all(kind):
                grouped[fact.name].append(fact.ref)
        return grouped
