"""Stories: one situation in several variants that stand side by side, each in a namespace of its own.

    stories/FAMILY/NAME.yaml   objects, metrics, logs    the healthy twin
                               fault                     what the fault changes of it
                               near: {NAME: …}           look-alikes that must not be accused, and what makes them so (`not`)
                               class, cause, evidence    what a good diagnosis of the fault says

A change is merged into the object of the same kind and name (RFC 7386: null deletes, lists are replaced whole); other objects are added.
`$ns` stands for the variant's namespace, `@ago 3h@` for a moment in the past. All variants of all stories are set at once. What needs
a second revision, a repair or a remedy is a scenario.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.lab import scenario, shapes
from tests.lab.api import ApiClient, Object, wait_for
from tests.lab.monitoring import Line
from tests.lab.scenario import Check, Expectation
from tests.yamltext import document, documents

FOLDER = Path(__file__).parent / "stories"
DEFINITIONS = Path(__file__).parent / "crds"
FAULT, TWIN, NEAR = "fault", "twin", "near"
# Pods that name no node stand here, past the scheduler: a kubelet of the lab's size has place for a dozen, and stories bring hundreds.
NODE = "stories"
LOADERS = 4
PATIENT_SECONDS = 240.0
# Faults (tests/lab/stages) of pods that run and do not get ready.
UNREADY = ("never-ready", "readiness")
_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
_DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Variant:
    """One variant: `name` is FAMILY/STORY/VARIANT; `metrics` as the file has them. A twin and a near miss expect no cause.

    `advice` is the class of what is to be said as an advisory, because nothing fails of it.
    """

    name: str
    namespace: str
    objects: tuple[Object, ...]
    metrics: tuple[Mapping[str, Any], ...]
    logs: Mapping[str, str]
    expect: Expectation
    advice: str = ""

    @property
    def measured(self) -> frozenset[str]:
        """The names of its metrics."""
        return frozenset(item["labels"]["__name__"] for item in self.metrics)


def names() -> tuple[str, ...]:
    """FAMILY/STORY of every story, sorted."""
    return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.yaml")))


def read(name: str, now: datetime, folder: Path = FOLDER) -> tuple[Variant, ...]:
    """The variants of one story: the fault, the twin, the near misses."""
    text = scenario.dated((folder / f"{name}.yaml").read_text("utf-8"), now)
    return tuple(_variant(name, text, label) for label in _labels(text))


def variants(name: str) -> tuple[str, ...]:
    """The names of a story's variants."""
    text = scenario.dated((FOLDER / f"{name}.yaml").read_text("utf-8"), datetime.now(UTC))
    return tuple(f"{name}/{label}" for label in _labels(text))


def _labels(text: str) -> tuple[str, ...]:
    return (FAULT, TWIN, *document(text).get(NEAR, {}))


def _variant(name: str, text: str, label: str) -> Variant:
    namespace = f"{name.replace('/', '-')}-{label}"
    story = document(text.replace("$ns", namespace))
    change = story[FAULT] if label == FAULT else {} if label == TWIN else story[NEAR][label]
    faulty = label == FAULT
    expect = Expectation(
        summary=story["summary"] if faulty else change.get("not", "the same without the fault"),
        namespace=namespace,
        question="",
        cause=story["cause"] if faulty else None,
        cause_class=story["class"] if faulty else "healthy",
        accept=tuple(story.get("accept", ())) if faulty else (),
        evidence=tuple(story["evidence"]) if faulty else (),
        innocent=(),
        repair=None,
        before=(),
        settled=tuple(_checks(change if "settled" in change else story)),
        repaired=(),
        also=tuple(story.get("also", ())) if faulty else (),
    )
    return Variant(
        f"{name}/{label}",
        namespace,
        tuple(_changed(story.get("objects", ()), change.get("objects", ()), change.get("delete", ()))),
        (*(() if "metrics" in change else story.get("metrics", ())), *change.get("metrics", ())),
        {**story.get("logs", {}), **change.get("logs", {})},
        expect,
        story["class"] if story.get("advice") else "",
    )


def _checks(story: Mapping[str, Any]) -> Iterator[Check]:
    for one in story.get("settled", ()):
        yield Check(**{**one, "path": tuple(one["path"])})


def _changed(objects: Iterable[Object], changes: Iterable[Object], deleted: Iterable[str]) -> Iterator[Object]:
    """`deleted` are KIND/NAME."""
    pending = {_key(one): one for one in changes}
    for one in objects:
        if _key(one) not in deleted:
            yield _merged(one, pending.pop(_key(one), {}))
    yield from pending.values()


def _key(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def _merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def define(client: ApiClient) -> None:
    """Install the definitions of custom resources, and the node of the stories' pods, unless they are there."""
    loaded = [one for path in sorted(DEFINITIONS.glob("*.yaml")) for one in documents(path)]
    present = {one["metadata"]["name"] for one in client.list(*_DEFINITION)}
    missing = [one for one in loaded if one["metadata"]["name"] not in present]
    for one in missing:
        client.apply(one)
    wait_for("the definitions to be served", functools.partial(_served, client, {one["metadata"]["name"] for one in missing}), 240)
    scenario.apply(client, [_node()])


def _served(client: ApiClient, wanted: set[str]) -> bool:
    found = (one for one in client.list(*_DEFINITION) if one["metadata"]["name"] in wanted)
    return all(
        any((item["type"], item["status"]) == ("Established", "True") for item in one.get("status", {}).get("conditions") or ())
        for one in found
    )


def _node() -> Object:
    labels = {
        "kubernetes.io/hostname": NODE,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        scenario.NODE_LABEL: "played",
        "lab.smokejumper.dev/machine": "gpu",
        "nvidia.com/gpu.count": "4096",
    }
    taints = [{"key": "lab.smokejumper.dev/stories", "effect": "NoSchedule"}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}, "spec": {"taints": taints}}


def load(client: ApiClient, container_logs: Path, chosen: Sequence[Variant], now: datetime) -> None:
    """Set variants at once; returns when all of them have settled. Their series are `series_of`.

    Raises WaitTimeoutError when one does not settle, ApiError when an object is refused.
    """
    define(client)
    with ThreadPoolExecutor(LOADERS) as loaders:
        made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one.namespace}} for one in chosen]
        nodes = [item for one in chosen for item in one.objects if item["kind"] == "Node"]
        list(loaders.map(client.apply, (*made, *map(_bare, nodes))))
        list(loaders.map(functools.partial(_prepared, client, container_logs, now), chosen))
        for one in chosen:
            for item in one.objects:
                if item["kind"] == "Node":
                    _conditioned(client, item)
        list(loaders.map(functools.partial(_applied, client), chosen))
        list(loaders.map(functools.partial(_settled, client), chosen))


def unload(client: ApiClient, chosen: Iterable[Variant]) -> None:
    """Delete what variants applied; namespaces end in the background. The definitions stay."""
    for one in chosen:
        for item in one.objects:
            if "namespace" not in item["metadata"]:
                client.delete(item["apiVersion"], item["kind"], item["metadata"]["name"])
        client.delete("v1", "Namespace", one.namespace)
    client.delete("v1", "Node", NODE)


def series_of(variant: Variant, now: datetime) -> Iterator[Line]:
    """Its metrics as series that end now."""
    for item in variant.metrics:
        yield Line({key: str(value) for key, value in item["labels"].items()}, _samples(item, now))


def _samples(item: Mapping[str, Any], now: datetime) -> shapes.Samples:
    """`shape` is a function of tests/lab/shapes.py with its arguments; a `rate` is what a counter grows by in a second."""
    arguments = dict(item["shape"])
    kind, minutes = arguments.pop("is"), arguments.pop("minutes", 120)
    resets = [now - timedelta(minutes=ago) for ago in arguments.pop("resets_ago", ())]
    gap, skew, counts = arguments.pop("gap", None), arguments.pop("skew_seconds", 0), arguments.pop("counts", False)
    samples: shapes.Samples = getattr(shapes, kind)(now, minutes=minutes, **arguments)
    if counts:
        samples = shapes.counter(samples, resets=resets)
    if gap is not None:
        samples = shapes.without(samples, **gap)
    return shapes.skewed(samples, skew) if skew else samples


def _bare(node: Object) -> Object:
    return {key: value for key, value in node.items() if key != "status"}


def _prepared(client: ApiClient, container_logs: Path, now: datetime, variant: Variant) -> None:
    """The namespace takes pods, the nodes report, the logs lie where the kubelets read them."""
    folder = container_logs / variant.namespace
    scenario.write_texts(variant.logs, folder, now)
    account = functools.partial(client.get, "v1", "ServiceAccount", "default", variant.namespace)
    wait_for(f"the service account of {variant.namespace}", account, PATIENT_SECONDS)
    for item in variant.objects:
        if item["kind"] == "Node":
            name = item["metadata"]["name"]
            wait_for(f"node {name} to report", functools.partial(scenario.initialized, client, name), PATIENT_SECONDS)


def _conditioned(client: ApiClient, node: Object) -> None:
    """Conditions that others than the kubelet write on a node: kept beside the kubelet's, which are merged by type."""
    if "status" in node:
        path = client.path("v1", "Node", None, node["metadata"]["name"]) + "/status"
        client.json("PATCH", path, body={"status": node["status"]}, content_type=STRATEGIC)


def _applied(client: ApiClient, variant: Variant) -> None:
    """In order, an owner before what it owns: the API server collects what has an owner of another uid."""
    uids: dict[tuple[str, str], str] = {}
    for item in variant.objects:
        if item["kind"] == "Node":
            continue
        one = copy.deepcopy(item)
        for owner in one["metadata"].get("ownerReferences", ()):
            owner["uid"] = uids[owner["kind"], owner["name"]]
        _placed(one)
        scenario.apply(client, [one])
        if item["kind"] != "Event":
            found = client.get(one["apiVersion"], one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
            assert found is not None
            uids[one["kind"], one["metadata"]["name"]] = found["metadata"]["uid"]


def _placed(one: Object) -> None:
    """A pod that says nothing of nodes, queues or gates is put on the stories' node."""
    spec = one.get("spec", {})
    if one["kind"] in _TEMPLATED and "template" in spec:
        spec = spec["template"].setdefault("spec", {})
    elif one["kind"] != "Pod":
        return
    if not {"nodeName", "nodeSelector", "affinity", "schedulingGates", "schedulerName"} & spec.keys():
        spec["nodeName"] = NODE


def _settled(client: ApiClient, variant: Variant) -> None:
    wait_for(f"the controllers of {variant.name} to be done", functools.partial(_quiet, client, variant.namespace), PATIENT_SECONDS)
    scenario.wait_until(client, variant.expect.settled)


def _quiet(client: ApiClient, namespace: str) -> bool:
    """Whether every pod has come as far as it comes by itself, and workloads have their pods."""
    for kind in ("Deployment", "StatefulSet"):
        for one in client.list("apps/v1", kind, namespace):
            status = one.get("status", {})
            wanted = one["spec"].get("replicas", 1)
            if status.get("observedGeneration") != one["metadata"]["generation"] or status.get("replicas", 0) != wanted:
                return False
    for one in client.list("batch/v1", "Job", namespace):
        status = one.get("status", {})
        if not one["spec"].get("suspend") and not status.get("conditions") and not status.get("active"):
            return False
    return all(map(_arrived, client.list("v1", "Pod", namespace)))


def _arrived(pod: Object) -> bool:
    status = pod.get("status", {})
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    fault = pod["metadata"].get("annotations", {}).get("fault.smokejumper.dev/kind")
    waiting = [item.get("state", {}).get("waiting", {}).get("reason") for item in status.get("containerStatuses", ())]
    if fault in UNREADY and (status.get("phase") == "Running" or "ContainerCreating" in waiting):
        return True
    return (
        status.get("phase") in ("Succeeded", "Failed")
        or conditions.get("Ready", {}).get("status") == "True"
        or conditions.get("PodScheduled", {}).get("status") == "False"
        or any(reason not in (None, "ContainerCreating", "PodInitializing") for reason in waiting)
    )
