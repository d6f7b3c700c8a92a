"""Families of changes: what each sends and how it is undone, what each refuses with a reason, and what is at stake."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from guardrails.action import (
    BY_NAME,
    DEPLOYMENT,
    Action,
    Cordon,
    DeleteClaim,
    DeleteFailedPods,
    Drain,
    EditConfigMapKey,
    EvictPod,
    ExpandVolume,
    Resume,
    RolloutPause,
    RolloutResume,
    SetImage,
    SetMigProfile,
    SetReplicaBounds,
    SetResources,
    Suspend,
    Taint,
    Uncordon,
    Untaint,
    example,
    from_words,
    parse_action,
    target,
)
from guardrails.change import Change, merge_difference, observed_fields, plan_change
from guardrails.changes.scaling import needs
from guardrails.errors import Impossible, InvalidAction
from guardrails.facts import Replicas
from guardrails.port import Observed
from guardrails.request import RECEIPT_ANNOTATION
from guardrails.risk import Risk, assess
from guardrails.verification import Query
from tests.guardrails.conftest import START
from tests.guardrails.fake_cluster import deployment, merge, node, pod, replica_set


def seen(raw: dict[str, Any], *related: dict[str, Any], missing: tuple[str, ...] = ()) -> Observed:
    metadata = raw["metadata"]
    on = target(raw["kind"], metadata.get("namespace"), metadata["name"])
    on = on.model_copy(update={"uid": metadata["uid"], "generation": metadata.get("generation")})
    return Observed("c", on, raw, related, missing)


def plan(action: Action, raw: dict[str, Any], *related: dict[str, Any]) -> Change:
    return plan_change(action, seen(raw, *related), now=START)


def thing(kind: str, name: str = "x", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "5"} | parts.pop("metadata", {})
    return {"kind": kind, "metadata": metadata, **parts}


def on_node(name: str, *, owner: str | None = "web-h2", **spec: Any) -> dict[str, Any]:
    raw = pod(name, ready=True, owner=owner)
    raw["spec"] |= {"nodeName": "gpu-1", **spec}
    return raw


def daemon_pod() -> dict[str, Any]:
    raw = on_node("agent")
    raw["metadata"]["ownerReferences"][0]["kind"] = "DaemonSet"
    return raw


def mirror_pod() -> dict[str, Any]:
    raw = on_node("static", owner=None)
    raw["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    return raw


def finished_pod() -> dict[str, Any]:
    return on_node("done") | {"status": {"phase": "Succeeded"}}


def failed_pod(name: str, at: str = "2026-11-25T09:00:00Z", reason: str = "Evicted", kind: str = "ReplicaSet") -> dict[str, Any]:
    raw = pod(name) | {"status": {"phase": "Failed", "reason": reason}}
    raw["metadata"]["creationTimestamp"] = at
    raw["metadata"]["ownerReferences"][0]["kind"] = kind
    return raw


SHOP = {"kind": "Namespace", "metadata": {"name": "shop", "uid": "uid-shop", "resourceVersion": "1"}}
PARENT = replica_set(2, "web:2")
CLASS = {"kind": "StorageClass", "metadata": {"name": "fast", "uid": "u"}, "allowVolumeExpansion": True}
CLAIM = thing(
    "PersistentVolumeClaim",
    "models",
    spec={"storageClassName": "fast", "resources": {"requests": {"storage": "100Gi"}}},
    status={"phase": "Bound"},
)
CONFIG = thing("ConfigMap", "web", data={"LOG_LEVEL": "info", "DSN": "postgres://u:hunter2hunter2@db/x"})
DEVICE = thing(
    "ResourceClaim",
    "web-gpu",
    metadata={
        "annotations": {"resource.kubernetes.io/pod-claim-name": "gpu"},
        "ownerReferences": [{"kind": "Pod", "name": "web-h2-x", "uid": "uid-web-h2-x", "controller": True}],
    },
    status={"allocation": {}},
)


AUTOSCALED = thing(
    "HorizontalPodAutoscaler",
    "web",
    spec={"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 6},
    status={"currentReplicas": 4},
)


def windows_pod() -> dict[str, Any]:
    return changed(pod(), spec={"os": {"name": "windows"}}, status={"phase": "Running"})


def reader(*, paused: bool = False) -> dict[str, Any]:
    raw = deployment()
    raw["spec"] |= {"paused": True} if paused else {}
    raw["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "web"}}]
    return raw


def mig_node(**changes: Any) -> dict[str, Any]:
    raw = node(unschedulable=True)
    raw["metadata"]["labels"] |= {"nvidia.com/mig.capable": "true", "nvidia.com/mig.config": "all-disabled"}
    return raw | changes


def gpu_pod() -> dict[str, Any]:
    raw = on_node("train")
    raw["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "4"}}
    return raw


def changed(raw: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return copy.deepcopy(raw) | parts


MADE_BY = [{"kind": "ScaledObject", "name": "web", "uid": "u", "controller": True}]
SCALED_OBJECTS = changed(AUTOSCALED, metadata=AUTOSCALED["metadata"] | {"ownerReferences": MADE_BY})


PLANS: list[tuple[Action, tuple[dict[str, Any], ...]]] = [
    (RolloutPause(), (deployment(),)),
    (SetImage(container="web", image="web:1"), (deployment(), replica_set(1, "web:1"))),
    (SetResources(container="web", memory_limit="2Gi"), (deployment(),)),
    (Taint(key="example.com/bad"), (node(),)),
    (Untaint(key="a"), (node() | {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]}},)),
    (SetMigProfile(profile="all-1g.10gb"), (mig_node(),)),
    (EditConfigMapKey(key="LOG_LEVEL", value="debug"), (CONFIG,)),
    (Suspend(), (thing("Job", spec={"parallelism": 2}),)),
    (SetReplicaBounds(maximum=9), (AUTOSCALED, deployment())),
    (SetReplicaBounds(minimum=3), (AUTOSCALED, deployment())),
    (Resume(), (thing("CronJob", spec={"suspend": True}),)),
    (Suspend(), (thing("Workload", spec={"active": True}),)),
    (Suspend(), (thing("MPIJob", spec={"runPolicy": {"cleanPodPolicy": "None"}}),)),
]


@pytest.mark.parametrize(("action", "objects"), PLANS, ids=lambda value: getattr(value, "action", ""))
def test_what_is_exact_leads_there_and_back(action: Action, objects: tuple[dict[str, Any], ...]) -> None:
    change = plan(action, *objects)
    assert action.traits.reversibility == "exact"
    assert len(change.inverse) == len(change.requests)
    before = copy.deepcopy(objects[0])
    after = copy.deepcopy(before)
    merge(after, change.requests[0].body)
    assert after != before
    merge(after, change.inverse[0].body)
    assert merge_difference(_bare(before), _bare(after)) == {}


def _bare(raw: Any) -> Any:
    """Without what is false or empty: the API server drops those."""
    return {key: _bare(item) for key, item in raw.items() if item not in (None, False, {}, [])} if isinstance(raw, dict) else raw


@pytest.mark.parametrize("action", [Cordon(), Uncordon(), Drain(), SetMigProfile(profile="all-1g.10gb"), Taint(key="a"), Untaint(key="a")])
def test_what_the_node_controllers_mark_matters_only_to_who_sends_the_whole_list(action: Action) -> None:
    calm = node()
    flapping, suspect = copy.deepcopy(calm), copy.deepcopy(calm)
    flapping["spec"]["taints"] = [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]
    suspect["spec"]["taints"] = [{"key": "example.com/suspect", "effect": "NoSchedule"}]
    whole = isinstance(action, Taint | Untaint)
    assert (observed_fields(action, calm) == observed_fields(action, flapping)) is not whole
    assert observed_fields(action, calm) != observed_fields(action, suspect)


@pytest.mark.parametrize(
    ("action", "stopped", "limit", "gpus"),
    [
        (SetReplicaBounds(maximum=9), 0, 9, 10),
        (SetReplicaBounds(maximum=5), 0, 4, 0),
        (SetReplicaBounds(maximum=3), 1, 3, 2),
        (SetReplicaBounds(minimum=6), 2, 6, 4),
        (SetReplicaBounds(minimum=3), 0, 4, 0),
    ],
)
def test_bounds_put_at_stake_what_they_force_and_what_they_allow(action: SetReplicaBounds, stopped: int, limit: int, gpus: int) -> None:
    scaled = deployment()
    scaled["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "2"}}
    risk = assess(action, seen(AUTOSCALED, scaled))
    assert (risk.pods_affected, risk.replicas, risk.gpus, risk.uses_gpu) == (stopped, Replicas(4, limit), gpus, True)
    assert risk.serving_after == min(4, limit)
    assert needs(action, AUTOSCALED) == (Query(DEPLOYMENT, "shop", "web"),)


def test_an_eviction_is_bound_to_the_pod_and_never_a_delete() -> None:
    raw = pod(ready=True)
    (request,) = plan(EvictPod(), raw, PARENT).requests
    assert (request.method, request.subresource, request.object_path) == ("POST", "eviction", "/api/v1/namespaces/shop/pods/web-h2-x")
    body = seen(raw, PARENT).bind(request, "r").body()
    assert body["deleteOptions"] == {"preconditions": {"uid": "uid-web-h2-x"}}, "a stale version would spend the budget on nothing"


def test_an_object_named_like_a_subresource_is_none() -> None:
    raw = deployment(name="resize")
    (request,) = plan(RolloutPause(), raw).requests
    assert (request.subresource, request.object_path) == ("", request.path)


def test_failed_pods_are_named_by_uid_oldest_first_and_bounded() -> None:
    pods = [failed_pod(f"p{n}", f"2026-11-25T0{n}:00:00Z") for n in range(5)]
    others = [failed_pod("job", kind="Job"), failed_pod("cpu", reason="OutOfcpu"), pod("alive")]
    change = plan(DeleteFailedPods(reason="Evicted", limit=2), SHOP, *reversed(pods), *others)
    assert [request.uid for request in change.requests] == ["uid-p0", "uid-p1"]
    observed = seen(SHOP, *pods)
    assert observed.bind(change.requests[0], "r").body()["preconditions"] == {"uid": "uid-p0", "resourceVersion": "70"}
    assert len({request.digest for request in change.requests}) == 2
    assert assess(DeleteFailedPods(), observed).pods_affected == 5


def test_a_drain_cordons_first_and_leaves_what_does_not_move() -> None:
    change = plan(Drain(), node(), on_node("b"), on_node("a"), daemon_pod(), mirror_pod(), finished_pod(), pod("elsewhere"))
    assert [(request.method, request.uid) for request in change.requests] == [("PATCH", None), ("POST", "uid-a"), ("POST", "uid-b")]
    assert change.inverse == ()
    again = plan(Drain(), node(unschedulable=True), on_node("a"))
    assert [request.method for request in again.requests] == ["POST"]


def test_a_config_map_and_the_restart_of_its_reader_are_one_change() -> None:
    change = plan(EditConfigMapKey(key="LOG_LEVEL", value="debug", restart=("Deployment/web",)), CONFIG, reader())
    assert [(r.path.rpartition("/")[0].rpartition("/")[2], r.uid) for r in change.requests] == [
        ("configmaps", None),
        ("deployments", "uid-web"),
    ]
    assert change.observed == {"data[LOG_LEVEL]": "info"}
    body = seen(CONFIG, reader()).bind(change.requests[1], "r").body()
    assert body["metadata"] == {"uid": "uid-web", "resourceVersion": "50", "annotations": {RECEIPT_ANNOTATION: "r"}}
    assert [check.check for check in change.checks] == ["field_is", "rollout_complete"]


@pytest.mark.parametrize(
    ("action", "objects", "why"),
    [
        (RolloutPause(), (deployment() | {"spec": {"paused": True}},), "paused already"),
        (RolloutResume(), (deployment(),), "not paused already"),
        (SetImage(container="web", image="web:9"), (deployment(), replica_set(1, "web:1")), "No kept revision.*web:1"),
        (SetImage(container="web", image="web:2"), (deployment(),), "has this image already"),
        (SetImage(container="side", image="web:1"), (deployment(),), "no container side.*It has: web"),
        (SetResources(container="web", cpu_request="2", cpu_limit="1"), (deployment(),), "more cpu than its limit"),
        (SetResources(container="web", cpu_limit="1"), (pod() | {"status": {"phase": "Failed"}},), "has ended"),
        (SetResources(container="web", cpu_limit="1"), (mirror_pod() | {"status": {"phase": "Running"}},), "static pod"),
        (SetResources(container="web", cpu_limit="1"), (windows_pod(),), "runs on Windows"),
        (EvictPod(), (pod(owner=None),), "no controller"),
        (DeleteFailedPods(), (SHOP, failed_pod("job", kind="Job")), "no failed pods"),
        (Drain(), (node(),), "No pod on .* would have to move"),
        (Drain(), (node(), on_node("a", owner=None)), "No controller recreates shop/a.*unmanaged=true"),
        (Drain(), (node(), on_node("a", volumes=[{"name": "c", "emptyDir": {}}])), "Data on this node.*local_data=true"),
        (Taint(key="a"), (node() | {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},), "has the taint"),
        (Untaint(key="a"), (node(),), "has no taint"),
        (SetReplicaBounds(maximum=6), (AUTOSCALED,), "has these bounds already"),
        (SetReplicaBounds(maximum=1), (AUTOSCALED,), "minimum of 2 and a maximum of 1.*Name both"),
        (SetReplicaBounds(maximum=9), (SCALED_OBJECTS,), "ScaledObject/web makes .* set its bounds back.*ScaledObject/web"),
        (SetMigProfile(profile="all-1g.10gb"), (node(unschedulable=True),), "does not say"),
        (SetMigProfile(profile="all-1g.10gb"), (mig_node(spec={}),), "Cordon it first"),
        (SetMigProfile(profile="all-1g.10gb"), (mig_node(), gpu_pod()), "in use by shop/train"),
        (SetMigProfile(profile="all-disabled"), (mig_node(),), "has the MIG profile"),
        (Suspend(), (thing("Job", spec={"suspend": True}),), "suspended already"),
        (Resume(), (thing("RayJob", spec={}),), "not suspended already"),
        (Suspend(), (thing("Job", spec={}, status={"conditions": [{"type": "Complete", "status": "True"}]}),), "has ended"),
        (Suspend(), (thing("Job", metadata={"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}, spec={}),), "Kueue owns this field"),
        (ExpandVolume(size="100Gi"), (CLAIM, CLASS), "never shrinks"),
        (ExpandVolume(size="200Gi"), (CLAIM,), "could not be seen"),
        (ExpandVolume(size="200Gi"), (CLAIM, CLASS | {"allowVolumeExpansion": False}), "does not allow expansion"),
        (ExpandVolume(size="200Gi"), (changed(CLAIM, status={"phase": "Pending"}), CLASS), "not bound"),
        (ExpandVolume(size="200Gi"), (changed(CLAIM, spec={}), CLASS), "cannot be compared"),
        (EditConfigMapKey(key="LOG_LEVEL", value=CONFIG["data"]["LOG_LEVEL"]), (CONFIG,), "this value already"),
        (EditConfigMapKey(key="LOG_LEVEL", value="x"), (changed(CONFIG, data={"LOG_LEVEL": "x" * 100_000}),), "longer than"),
        (EditConfigMapKey(key="LOG_LEVEL", value="x", restart=("Deployment/web",)), (CONFIG, reader(paused=True)), "is paused"),
        (EditConfigMapKey(key="NEW", value="x"), (CONFIG,), "no key NEW.*DSN, LOG_LEVEL"),
        (EditConfigMapKey(key="DSN", value="x"), (CONFIG,), "looks like a secret"),
        (EditConfigMapKey(key="LOG_LEVEL", value="x"), (changed(CONFIG, immutable=True),), "immutable"),
        (EditConfigMapKey(key="LOG_LEVEL", value="x", restart=("Deployment/web",)), (CONFIG, deployment()), "does not use"),
        (EditConfigMapKey(key="LOG_LEVEL", value="x", restart=("Deployment/web",)), (CONFIG,), "is not in the namespace"),
        (DeleteClaim(), (thing("ResourceClaim", "mine"),), "not made from a template"),
        (DeleteClaim(), (changed(DEVICE, status={"reservedFor": [{"name": "web-h2-x"}]}),), "reserved for web-h2-x"),
        (DeleteClaim(), (DEVICE, pod() | {"status": {"phase": "Running"}}), "runs"),
    ],
)
def test_impossible(action: Action, objects: tuple[dict[str, Any], ...], why: str) -> None:
    with pytest.raises(Impossible, match=why):
        plan(action, *objects)


def test_what_could_not_be_read_is_no_permission_to_drain() -> None:
    with pytest.raises(Impossible, match=r"could not be read.*pods are forbidden"):
        plan_change(Drain(), seen(node(), on_node("a"), missing=("pods are forbidden",)), now=START)


@pytest.mark.parametrize(
    "document",
    [
        {"action": "taint", "key": "node.kubernetes.io/not-ready"},
        {"action": "taint", "key": "a", "effect": "NoExecute"},
        {"action": "taint", "key": "a b"},
        {"action": "set_mig_profile", "profile": ""},
        {"action": "set_mig_profile", "profile": "x", "label": "nvidia.com/other"},
        {"action": "set_replica_bounds"},
        {"action": "set_replica_bounds", "minimum": 0},
        {"action": "set_replica_bounds", "minimum": 3, "maximum": 2},
        {"action": "set_resources", "container": "web"},
        {"action": "set_resources", "container": "web", "memory_limit": "0"},
        {"action": "set_resources", "container": "web", "memory_limit": "-1Gi"},
        {"action": "set_resources", "container": "web", "memory_limit": "1e30"},
        {"action": "set_resources", "container": "web", "cpu_limit": "2000"},
        {"action": "expand_pvc", "size": "100Ti"},
        {"action": "expand_pvc", "size": 100},
        {"action": "delete_failed_pods", "limit": 101},
        {"action": "drain", "wait_seconds": 3601},
        {"action": "drain", "force": True},
        {"action": "set_image", "container": "web", "image": "web:1 --privileged"},
        {"action": "edit_configmap_key", "key": "DB_PASSWORD", "value": "x"},
        {"action": "edit_configmap_key", "key": "url", "value": "postgres://u:hunter2hunter2@db/x"},
        {"action": "edit_configmap_key", "key": "a/b", "value": "x"},
        {"action": "edit_configmap_key", "key": "a", "value": "x", "restart": ["Secret/x"]},
        {"action": "edit_configmap_key", "key": "a", "value": "x", "restart": ["Deployment/../x"]},
    ],
)
def test_parameters_out_of_bounds(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidAction):
        parse_action(document)


def test_a_command_line_gives_text_and_the_schema_the_types() -> None:
    assert from_words("drain", {"local_data": "true", "wait_seconds": "60"}) == Drain(local_data=True, wait_seconds=60)
    assert from_words("edit_configmap_key", {"key": "1", "value": "2", "restart": "Deployment/a, Deployment/b"}) == EditConfigMapKey(
        key="1", value="2", restart=("Deployment/a", "Deployment/b")
    )
    for name, words in (("scale", {"replicas": "1e9"}), ("scale", {"replicas": "-1"}), ("scale", {}), ("drain", {"local_data": "1"})):
        with pytest.raises(InvalidAction):
            from_words(name, words)
    with pytest.raises(InvalidAction, match=r"has no parameter 'force'.*It has: unmanaged"):
        from_words("drain", {"force": "true"})


def test_every_action_has_an_example_and_says_whether_it_can_be_undone() -> None:
    for name, word in BY_NAME.items():
        assert example(name).action == name
        assert word.traits.reversibility in ("exact", "recreated", "none")


def budget(allowed: int) -> dict[str, Any]:
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
    return thing("PodDisruptionBudget", "web", spec={"selector": selector}, status={"disruptionsAllowed": allowed})


def test_what_a_drain_puts_at_stake() -> None:
    sick = node("gpu-2") | {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    risk = assess(Drain(), seen(node(), node("gpu-2"), node("gpu-3"), on_node("a"), on_node("b"), budget(1)))
    assert (risk.pods_affected, risk.gpus, risk.disruptions_allowed, risk.namespaces) == (2, 8, 1, ("shop",))
    assert (risk.pool_disrupted, risk.pool_share_percent) == (0, 0)
    risk = assess(Drain(), seen(node(), sick, node("gpu-3")))
    assert (risk.pool_disrupted, risk.pool_share_percent) == (1, 33)


@pytest.mark.parametrize(
    ("action", "raw", "related", "serving"),
    [
        (EvictPod(), pod(ready=True), (PARENT,), 2),
        (EvictPod(), pod(ready=False), (PARENT,), 3),
        (EvictPod(), pod(ready=True), (PARENT | {"status": {"readyReplicas": 1}},), 0),
        (EvictPod(), pod(ready=False), (PARENT | {"status": {}},), -1),
        (RolloutPause(), deployment(), (), -1),
    ],
)
def test_what_serves_afterwards(action: Action, raw: dict[str, Any], related: tuple[dict[str, Any], ...], serving: int) -> None:
    assert assess(action, seen(raw, *related)).serving_after == serving


def test_a_recreated_rollout_serves_nothing_for_a_while() -> None:
    raw = deployment()
    raw["spec"]["strategy"] = {"type": "Recreate"}
    assert assess(SetImage(container="web", image="web:1"), seen(raw)).serving_after == 0


def test_who_would_fight_it() -> None:
    queued = thing("JobSet", metadata={"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}, spec={})
    assert assess(Suspend(), seen(queued)).controlled
    synced = deployment()
    synced["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/name": "x"}
    edit = EditConfigMapKey(key="LOG_LEVEL", value="x", restart=("Deployment/web",))
    assert assess(edit, seen(CONFIG, synced)).controlled
    assert assess(edit, seen(CONFIG, deployment())) == Risk(pods_affected=3)
