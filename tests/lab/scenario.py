"""Scenarios: a folder of manifests to apply, container logs, and what a good diagnosis of the result says.

    scenarios/NAME/manifests.yaml   applied first
                   refused.yaml     never made: the scene goes on once a dry run of each is refused; optional
                   change.yaml      applied when the checks `before` hold (a second revision, a fault); optional
                   delete.yaml      what is deleted after that (apiVersion, kind, metadata); optional
                   repair.yaml      what puts it right; optional
                   release.yaml     what is deleted after the repair; optional
                   logs/*.log       plain text, served to pods whose annotations name the file
                   expect.yaml      see Expectation

Manifests may say `@ago 3h@` for a moment in the past (s, m, h, d) and `@loopback NAME@` for what tests/lab/loopback.py gives. Loading
returns once the checks `settled` hold and the scene is as old as it has to be.
"""

from __future__ import annotations

import datetime
import functools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.api import ApiClient, ApiError, Object, WaitTimeoutError, wait_for
from tests.yamltext import document, documents

FOLDER = Path(__file__).parent / "scenarios"
SETTLE_SECONDS = 240.0
NODE_LABEL = "lab.smokejumper.dev/kubelet"
# How many GPUs a played node offers while its fault lasts.
GPUS_ANNOTATION = "fault.smokejumper.dev/gpus"
# A Job's controller waits ten seconds before a second try, a pod of a lost node forty before it is collected.
PATIENT_SECONDS = 300.0
AGO = re.compile(r"@ago (\d+)([smhd])@")
# Quoted, because YAML reserves the first character; the value it stands for is a number or a plain word.
LOOPBACK = re.compile(r"['\"]?@loopback (\w+)@['\"]?")
# What an API server says for a policy, and for a webhook that it cannot call.
REFUSALS = ("denied", "failed calling webhook")
UNITS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# A node's status is its kubelet's; a Workflow has no status subresource, so that applying it sets all of it.
WITHOUT_STATUS = ("Node", "Workflow")
API_VERSIONS: Mapping[str, str] = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "APIService": "apiregistration.k8s.io/v1",
    "PriorityClass": "scheduling.k8s.io/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "ResourceClaim": "resource.k8s.io/v1",
    "ResourceClaimTemplate": "resource.k8s.io/v1",
    "DeviceClass": "resource.k8s.io/v1",
    "ResourceSlice": "resource.k8s.io/v1",
}
# What is deleted before its namespace, so that the namespace controller finds nothing to wait for.
COLLECTIONS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"),
)


class UnknownScenarioError(Exception):
    """There is no scenario of this name; the message lists those there are."""


@dataclass(frozen=True)
class Check:
    """Something that becomes visible in the cluster.

    `object` is KIND/NAMESPACE/NAME or KIND/NAMESPACE/LABEL=VALUE (namespace `-` for none, empty name for all); `path` leads to
    values (lists are walked into, a mapping keeps the list elements that have these fields). At least `count` objects must
    have a value that `equals` or `contains` what is given; with `absent`, none may.
    """

    object: str
    path: tuple[Any, ...]
    equals: Any = None
    contains: str | None = None
    count: int = 1
    absent: bool = False

    def holds(self, client: ApiClient) -> bool:
        """Whether the cluster shows it now."""
        return (self._seen(client) == 0) if self.absent else (self._seen(client) >= self.count)

    def _seen(self, client: ApiClient) -> int:
        return sum(any(map(self._matches, values(one, self.path))) for one in self._objects(client))

    def _matches(self, value: Any) -> bool:
        if self.contains is not None:
            return self.contains in str(value)
        return bool(value == self.equals)

    def _objects(self, client: ApiClient) -> list[Object]:
        kind, namespace, name = self.object.split("/", 2)
        version = API_VERSIONS.get(kind, "v1")
        where = None if namespace == "-" else namespace
        if not name or "=" in name:
            return client.list(version, kind, where, name)
        found = client.get(version, kind, name, where)
        return [found] if found else []


@dataclass(frozen=True)
class Expectation:
    """What a good diagnosis says. `cause` is None where the cluster is healthy.

    `also` are further causes, with `class`, in scenes of several faults. `remedy` is the action that Smokejumper itself can take,
    as its command line words it. `alone`: the scene would disturb others in the same cluster. `age_seconds`: how old it must be
    before anybody may call it a fault.
    """

    summary: str
    namespace: str
    question: str
    cause: Mapping[str, str | None] | None
    cause_class: str
    accept: tuple[Mapping[str, str | None], ...]
    evidence: tuple[str, ...]
    innocent: tuple[str, ...]
    repair: Mapping[str, Any] | None
    before: tuple[Check, ...]
    settled: tuple[Check, ...]
    repaired: tuple[Check, ...]
    also: tuple[Mapping[str, str | None], ...] = ()
    remedy: tuple[str, ...] = ()
    alone: bool = False
    age_seconds: int = 0


@dataclass(frozen=True)
class Scenario:
    """A scenario folder, read."""

    name: str
    folder: Path
    expect: Expectation

    def manifests(self, file: str, now: datetime.datetime, loopback: Mapping[str, str] | None = None) -> list[Object]:
        """The documents of one of its files, none where it has no such file. Without `loopback` its words stay as they are."""
        path = self.folder / file
        if not path.exists():
            return []
        text = dated(path.read_text("utf-8"), now)
        if loopback is not None:
            text = LOOPBACK.sub(lambda found: loopback[found.group(1)], text)
        return documents(text)

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that it makes."""
        made = self.manifests("manifests.yaml", datetime.datetime.now(datetime.UTC))
        return frozenset(one["metadata"]["name"] for one in made if one["kind"] == "Namespace")

    @property
    def leaves_something(self) -> bool:
        """Whether its namespace is still there when it is repaired."""
        return self.expect.cause is None or self.expect.cause["kind"] != "Namespace"

    @property
    def needs_loopback(self) -> bool:
        """Whether it needs the loopback server."""
        return any(LOOPBACK.search(path.read_text("utf-8")) for path in self.folder.glob("*.yaml"))


def names() -> tuple[str, ...]:
    """All scenarios, sorted."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/expect.yaml")))


def read(name: str) -> Scenario:
    """One scenario. Raises UnknownScenarioError."""
    if name not in names():
        raise UnknownScenarioError(f"no scenario {name!r}; there are: {', '.join(names())}")
    data = document((FOLDER / name / "expect.yaml").read_text("utf-8"))

    def checks(key: str) -> tuple[Check, ...]:
        return tuple(Check(**{**one, "path": tuple(one["path"])}) for one in data.get(key, ()))

    expect = Expectation(
        summary=data["summary"],
        namespace=data["namespace"],
        question=data["question"],
        cause=data.get("cause"),
        cause_class=data["class"],
        accept=tuple(data.get("accept", ())),
        evidence=tuple(data.get("evidence", ())),
        innocent=tuple(data.get("innocent", ())),
        repair=data.get("repair"),
        before=checks("before"),
        settled=checks("settled"),
        repaired=checks("repaired"),
        also=tuple(data.get("also", ())),
        remedy=tuple(data.get("remedy", ())),
        alone=data.get("alone", False),
        age_seconds=data.get("age_seconds", 0),
    )
    return Scenario(name, FOLDER / name, expect)


def load(client: ApiClient, container_logs: Path, scenes: Sequence[Scenario], loopback: Mapping[str, str] | None = None) -> None:
    """Set scenes of different namespaces at once; returns when all faults show.

    Raises WaitTimeoutError when one does not, ApiError when a manifest is refused.
    """
    now = datetime.datetime.now(datetime.UTC)
    for scene in scenes:
        for space in scene.namespaces:
            wait_for(f"the old namespace {space} to be gone", functools.partial(_absent, client, space), SETTLE_SECONDS)
            write_logs(scene.folder / "logs", container_logs / space, now)
    for scene in scenes:
        apply(client, scene.manifests("manifests.yaml", now, loopback))
    began = time.monotonic()
    for scene in scenes:
        wait_until(client, scene.expect.before)
        wait_refused(client, scene.manifests("refused.yaml", now, loopback))
        apply(client, scene.manifests("change.yaml", now, loopback))
        delete(client, scene.manifests("delete.yaml", now))
    for scene in scenes:
        wait_until(client, scene.expect.settled)
    time.sleep(max(0.0, began + max(scene.expect.age_seconds for scene in scenes) - time.monotonic()))


def repair(client: ApiClient, scenes: Sequence[Scenario], loopback: Mapping[str, str] | None = None) -> None:
    """Put scenes right by their own repair; returns when the checks `repaired` hold."""
    now = datetime.datetime.now(datetime.UTC)
    for scene in scenes:
        apply(client, scene.manifests("repair.yaml", now, loopback))
        delete(client, scene.manifests("release.yaml", now))
    for scene in scenes:
        wait_repaired(client, scene)


def wait_repaired(client: ApiClient, scenario: Scenario) -> None:
    """Wait until the checks `repaired` hold, whoever repaired it. Raises WaitTimeoutError."""
    wait_until(client, scenario.expect.repaired)


def unload(client: ApiClient, scenario: Scenario) -> None:
    """Delete all that the scenario applied. Namespaces end in the background; loading one again waits for that."""
    now = datetime.datetime.now(datetime.UTC)
    files = ("manifests.yaml", "change.yaml", "repair.yaml")
    applied = [one for file in files for one in scenario.manifests(file, now)]
    # What is in the way of every deletion goes first: a webhook that refuses, an API that does not answer, a finalizer.
    for one in reversed(applied):
        if one["kind"] != "Namespace" and "namespace" not in one["metadata"]:
            client.delete(one["apiVersion"], one["kind"], one["metadata"]["name"])
    for one in applied:
        if one["metadata"].get("finalizers"):
            _release(client, one)
    for space in scenario.namespaces:
        delete_namespace(client, space)


def _release(client: ApiClient, one: Object) -> None:
    """Take an object's finalizers away, if it is still there."""
    metadata = one["metadata"]
    if client.get(one["apiVersion"], one["kind"], metadata["name"], metadata.get("namespace")) is not None:
        client.patch(one["apiVersion"], one["kind"], metadata["name"], {"metadata": {"finalizers": None}}, metadata.get("namespace"))


def delete_namespace(client: ApiClient, name: str) -> None:
    """Delete a namespace, its pods first and at once."""
    for version, kind in COLLECTIONS:
        path = client.path(version, kind, name)
        client.json("DELETE", path, body={"propagationPolicy": "Background", "gracePeriodSeconds": 0})
    client.delete("v1", "Namespace", name)


def apply(client: ApiClient, manifests: list[Object]) -> None:
    """Apply in order. A namespace waits until an earlier one of its name is gone; it is ready for pods once its default service account
    is there, a new node once it is untainted, one whose GPUs change once it offers that many: pods that come next are scheduled on it."""
    for one in manifests:
        metadata = one["metadata"]
        if one["kind"] == "Namespace":
            wait_for(
                f"the old namespace {metadata['name']} to be gone", functools.partial(_unlocked, client, metadata["name"]), SETTLE_SECONDS
            )
        if one["kind"] == "Event":
            client.request("POST", client.path("v1", "Event", metadata["namespace"]), body=one)
            continue
        client.apply(one)
        if "status" in one and one["kind"] not in WITHOUT_STATUS:
            client.patch(one["apiVersion"], one["kind"], metadata["name"], {"status": one["status"]}, metadata.get("namespace"), "status")
        if one["kind"] == "Node" and metadata.get("labels", {}).get(NODE_LABEL) == "played":
            wait_for(f"node {metadata['name']} to be initialized", functools.partial(initialized, client, metadata["name"]), SETTLE_SECONDS)
            offered = metadata.get("annotations", {}).get(GPUS_ANNOTATION)
            if offered is not None:
                path = ("status", "allocatable", "nvidia.com/gpu")
                wait_until(client, (Check(f"Node/-/{metadata['name']}", path, equals=offered),))
        if one["kind"] == "Namespace":
            account = functools.partial(client.get, "v1", "ServiceAccount", "default", metadata["name"])
            wait_for(f"the service account of {metadata['name']}", account, SETTLE_SECONDS)


def delete(client: ApiClient, manifests: list[Object]) -> None:
    """Delete the named objects, as somebody in the story did."""
    for one in manifests:
        client.delete(one["apiVersion"], one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))


def wait_until(client: ApiClient, checks: tuple[Check, ...]) -> None:
    """Wait until all checks have held, one after the other. Raises WaitTimeoutError with what the objects show instead."""
    for check in checks:
        try:
            wait_for(str(check), functools.partial(check.holds, client), PATIENT_SECONDS)
        except WaitTimeoutError as error:
            seen = [(one["metadata"]["name"], list(values(one, check.path))) for one in check._objects(client)]
            raise WaitTimeoutError(f"{error}; {check.object} shows {seen}") from error
        except ApiError as error:
            raise WaitTimeoutError(f"{check}: {error}") from error


def wait_refused(client: ApiClient, manifests: list[Object]) -> None:
    """Wait until a dry run of each is refused: an API server enforces a policy or a webhook some moments after it has stored it.
    Raises WaitTimeoutError."""
    for one in manifests:
        what = f"a dry run of {one['kind']} {one['metadata']['name']} to be refused"
        wait_for(what, functools.partial(_refused, client, one), PATIENT_SECONDS)


def _refused(client: ApiClient, one: Object) -> bool:
    path = client.path(one["apiVersion"], one["kind"], one["metadata"].get("namespace"))
    said = client.request("POST", path, query={"dryRun": "All"}, body=one).text
    return any(word in said for word in REFUSALS)


def values(node: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    """All values that a path leads to."""
    if isinstance(node, list):
        for one in node:
            if path and isinstance(path[0], dict):
                if all(one.get(key) == wanted for key, wanted in path[0].items()):
                    yield from values(one, path[1:])
            else:
                yield from values(one, path)
    elif not path:
        yield node
    elif isinstance(node, dict) and not isinstance(path[0], dict) and path[0] in node:
        yield from values(node[path[0]], path[1:])


def write_logs(source: Path, target: Path, now: datetime.datetime) -> None:
    """The log files of a folder, see `write_texts`."""
    write_texts({path.name: path.read_text("utf-8") for path in sorted(source.glob("*.log"))}, target, now)


def write_texts(texts: Mapping[str, str], target: Path, now: datetime.datetime) -> None:
    """Turn plain logs, by file name, into the CRI format that a kubelet reads: one line a second, the last one now."""
    target.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        lines = text.splitlines()
        stamps = (now - datetime.timedelta(seconds=len(lines) - 1 - index) for index in range(len(lines)))
        written = (f"{stamp.strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z stdout F {line}\n" for stamp, line in zip(stamps, lines, strict=True))
        (target / name).write_text("".join(written), "utf-8")


def initialized(client: ApiClient, name: str) -> bool:
    """Whether a node reports a status and has lost the taint that it was born with, unless it is to be unready."""
    node = client.get("v1", "Node", name) or {}
    faulty = "Ready=" in node.get("metadata", {}).get("annotations", {}).get("fault.smokejumper.dev/condition", "")
    born = any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node.get("spec", {}).get("taints", ()))
    return bool(node.get("status", {}).get("capacity")) and (faulty or not born)


def _absent(client: ApiClient, namespace: str) -> bool:
    return client.get("v1", "Namespace", namespace) is None


def _unlocked(client: ApiClient, namespace: str) -> bool:
    """Whether nothing keeps objects from being made in a namespace of that name: one that is being deleted takes none."""
    found = client.get("v1", "Namespace", namespace)
    return found is None or "deletionTimestamp" not in found["metadata"]


def dated(text: str, now: datetime.datetime) -> str:
    """A text with its `@ago …@` as moments."""

    def moment(found: re.Match[str]) -> str:
        past = now - datetime.timedelta(seconds=int(found.group(1)) * UNITS[found.group(2)])
        return past.strftime("%Y-%m-%dT%H:%M:%SZ")

    return AGO.sub(moment, text)
