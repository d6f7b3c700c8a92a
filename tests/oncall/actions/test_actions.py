"""Every action for real: proposed, approved by others, executed, verified, and undone where it can be. The audit log is the witness.

The account that executes holds the role that `smokejumper rbac` prints and nothing else that writes, so these tests also prove that
the role is enough.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.lab.api import wait_for
from tests.oncall.actions.bench import WAIT_SECONDS, Bench

# (group, version, kind, plural, the field that suspends it, what its operator says when it is)
OPERATED: tuple[tuple[str, str, str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("kueue.x-k8s.io", "v1beta2", "Workload", "workloads", {"active": True}, {}),
    ("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets", {"suspend": False}, {"conditions": [{"type": "Suspended", "status": "True"}]}),
    ("ray.io", "v1", "RayJob", "rayjobs", {"suspend": False}, {"jobDeploymentStatus": "Suspended"}),
    (
        "trainer.kubeflow.org",
        "v1alpha1",
        "TrainJob",
        "trainjobs",
        {"suspend": False},
        {"conditions": [{"type": "Suspended", "status": "True"}]},
    ),
    (
        "kubeflow.org",
        "v1",
        "PyTorchJob",
        "pytorchjobs",
        {"runPolicy": {"suspend": False}},
        {"conditions": [{"type": "Suspended", "status": "True"}]},
    ),
    (
        "kubeflow.org",
        "v2beta1",
        "MPIJob",
        "mpijobs",
        {"runPolicy": {"suspend": False}},
        {"conditions": [{"type": "Suspended", "status": "True"}]},
    ),
)
# Kinds with the field of another one that is tried in every run; these are left to make soak.
SUSPENDED_LIKE_ANOTHER = ("JobSet", "PyTorchJob")


def test_a_rollout_is_paused_and_resumed(bench: Bench) -> None:
    bench.deployment()
    bench.do("rollout_pause", "deploy/web")
    assert bench.get("apps/v1", "Deployment", "web")["spec"]["paused"] is True
    assert "is paused already" in bench.refused("rollout_pause", "deploy/web")
    bench.do("rollout_resume", "deploy/web")
    assert "paused" not in bench.get("apps/v1", "Deployment", "web")["spec"]
    assert bench.writes() == [("patch", "deployments", "web", 200)] * 2


def test_a_workload_is_scaled_restarted_and_scaled_back(bench: Bench) -> None:
    bench.deployment(replicas=2)
    assert "has 2 replicas already" in bench.refused("scale", "deploy/web", "replicas=2")
    bench.do("scale", "deploy/web", "replicas=3")
    before = {pod["metadata"]["uid"] for pod in bench.pods()}
    assert len(before) == 3
    bench.do("rollout_restart", "deploy/web")
    after = {pod["metadata"]["uid"] for pod in bench.pods()}
    assert len(after) == 3
    assert not before & after
    refused = bench.refused("rollout_undo", "deploy/web")
    assert "is healthy at revision 2: 3 of 3 pods have the present template and are ready." in refused
    assert "to_revision: 1 (" in refused
    bench.do("scale", "deploy/web", "replicas=2")
    assert bench.get("apps/v1", "Deployment", "web")["spec"]["replicas"] == 2
    assert bench.writes() == [("patch", "deployments", "web", 200)] * 3


def test_an_autoscaler_keeps_its_replicas_and_takes_other_bounds(bench: Bench) -> None:
    bench.deployment()
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    bench.apply("autoscaling/v2", "HorizontalPodAutoscaler", "web", spec={"scaleTargetRef": reference, "maxReplicas": 4})
    assert "HorizontalPodAutoscaler/web owns the replicas" in bench.refused("scale", "deploy/web", "replicas=3")
    assert "has these bounds already" in bench.refused("set_replica_bounds", "hpa/web", "maximum=4")
    assert bench.writes() == []
    for least, most in ((2, 6), (1, 4)):
        bench.do("set_replica_bounds", "hpa/web", f"minimum={least}", f"maximum={most}")
        spec = bench.get("autoscaling/v2", "HorizontalPodAutoscaler", "web")["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (least, most)
    assert bench.writes() == [("patch", "horizontalpodautoscalers", "web", 200)] * 2


def test_a_pod_is_deleted_and_its_controller_makes_another(bench: Bench) -> None:
    bench.deployment(replicas=2)
    victim, other = sorted(pod["metadata"]["name"] for pod in bench.pods())
    bench.apply("v1", "Pod", "alone", spec={"containers": [{"name": "work", "image": "example.com/work:v1"}]})
    assert "controller" in bench.refused("delete_pod", "pod/alone")
    bench.do("delete_pod", f"pod/{victim}")
    wait_for("the other pod", lambda: len(bench.pods()) == 2, WAIT_SECONDS)
    names = {pod["metadata"]["name"] for pod in bench.pods()}
    assert other in names
    assert victim not in names
    assert bench.writes() == [("delete", "pods", victim, 200)]


def test_resources_of_a_workload(bench: Bench) -> None:
    bench.deployment(container={"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}})
    bench.do("set_resources", "deploy/web", "container=server", "memory_limit=2Gi", "cpu_request=500m")
    (container,) = bench.get("apps/v1", "Deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert "request more memory" in bench.refused("set_resources", "deploy/web", "container=server", "memory_limit=512Mi")
    bench.do("set_resources", "deploy/web", "container=server", "memory_limit=1Gi")
    assert bench.writes() == [("patch", "deployments", "web", 200)] * 2


def test_a_pod_is_resized_in_place(bench: Bench) -> None:
    bench.deployment(container={"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}})
    (pod,) = bench.pods()
    name = pod["metadata"]["name"]

    def kubelet() -> None:
        found = bench.get("v1", "Pod", name)
        statuses = found["status"]["containerStatuses"]
        statuses[0]["resources"] = found["spec"]["containers"][0]["resources"]
        bench.client.patch("v1", "Pod", name, {"status": {"containerStatuses": statuses}}, bench.space, "status")

    # The API server takes a node that reports no resources of a container for one that cannot resize.
    kubelet()
    with bench.played(kubelet):
        bench.do("set_resources", f"pod/{name}", "container=server", "cpu_request=1500m")
        assert bench.get("v1", "Pod", name)["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1500m"}
        bench.do("set_resources", f"pod/{name}", "container=server", "cpu_request=1")
    assert bench.writes() == [("patch", "pods/resize", name, 200)] * 2
    assert [p["metadata"]["uid"] for p in bench.pods()] == [pod["metadata"]["uid"]]


def test_an_image_that_ran_before_and_its_rollback_when_it_fails(bench: Bench) -> None:
    fault = {"fault.smokejumper.dev/kind": "image-pull", "fault.smokejumper.dev/while": "web:v1"}
    bench.deployment(annotations=fault, ready=0, deadline_seconds=6)
    bench.deployment(image="example.com/web:v2", annotations=fault, deadline_seconds=6)
    assert "No kept revision" in bench.refused("set_image", "deploy/web", "container=server", "image=example.com/web:v3")
    bench.do("set_image", "deploy/web", "container=server", "image=example.com/web:v1", ends="rolled_back")
    (container,) = bench.get("apps/v1", "Deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.com/web:v2"
    assert bench.writes() == [("patch", "deployments", "web", 200)] * 2


def test_a_pod_is_evicted_and_a_budget_ends_it(bench: Bench) -> None:
    bench.deployment(replicas=2)
    name = bench.pods()[0]["metadata"]["name"]
    bench.do("evict_pod", f"pod/{name}")
    assert bench.writes() == [("create", "pods/eviction", name, 201)]
    name = bench.pods()[0]["metadata"]["name"]
    proposal, _ = bench.propose("evict_pod", f"pod/{name}")
    bench.budget(allowed=0, minAvailable=2)
    assert bench.say("execute", proposal)[0] != 0
    assert "allows no disruption" in bench.refused("evict_pod", f"pod/{name}")
    assert bench.writes() == []
    assert name in [p["metadata"]["name"] for p in bench.pods()]


def test_failed_pods_go_and_nothing_else(bench: Bench) -> None:
    bench.deployment(replicas=3)
    victims = sorted(p["metadata"]["name"] for p in bench.pods())[:2]
    for name in victims:
        bench.client.patch("v1", "Pod", name, {"status": {"phase": "Failed", "reason": "Evicted"}}, bench.space, "status")
    wait_for("replacements", lambda: len(bench.pods()) == 5, WAIT_SECONDS)
    assert "no failed pods" in bench.refused("delete_failed_pods", f"namespace/{bench.space}", "reason=OutOfcpu")
    bench.do("delete_failed_pods", f"namespace/{bench.space}", "reason=Evicted")
    assert sorted(bench.writes()) == [("delete", "pods", name, 200) for name in victims]
    assert len(bench.pods()) == 3


def test_jobs_and_cron_jobs_are_suspended_and_resumed(bench: Bench) -> None:
    lasting = {"annotations": {"lab.smokejumper.dev/runs-for": "600s"}}
    template = {"metadata": lasting, "spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "example.com/work:v1"}]}}
    bench.apply("batch/v1", "Job", "train", spec={"template": template})
    job = {"template": {"spec": {"template": template}}}
    bench.apply("batch/v1", "CronJob", "nightly", spec={"schedule": "0 3 1 1 *", "jobTemplate": job["template"]})
    bench.do("suspend", "job/train")
    bench.do("resume", "job/train")
    bench.do("suspend", "cj/nightly")
    bench.do("resume", "cj/nightly")
    assert bench.get("batch/v1", "CronJob", "nightly")["spec"]["suspend"] is False
    assert [(verb, kind) for verb, kind, _, _ in bench.writes()] == [("patch", "jobs")] * 2 + [("patch", "cronjobs")] * 2


@pytest.mark.parametrize(
    ("group", "version", "kind", "plural", "spec", "said"),
    [pytest.param(*one, id=one[2], marks=[pytest.mark.soak] if one[2] in SUSPENDED_LIKE_ANOTHER else []) for one in OPERATED],
)
def test_what_operators_run_is_suspended_by_its_own_field(
    bench: Bench, group: str, version: str, kind: str, plural: str, spec: dict[str, Any], said: dict[str, Any]
) -> None:
    _define(bench, group, version, kind, plural)
    bench.apply(f"{group}/{version}", kind, "train", spec=spec)

    def operator() -> None:
        found = bench.get(f"{group}/{version}", kind, "train")
        path = found["spec"].get("runPolicy", found["spec"])
        suspended = path.get("suspend", False) or not path.get("active", True)
        away = {"conditions": [], "jobDeploymentStatus": "Running"}
        bench.client.patch(f"{group}/{version}", kind, "train", {"status": said if suspended else away}, bench.space, "status")

    with bench.played(operator):
        bench.do("suspend", f"{kind}/train")
        assert bench.get(f"{group}/{version}", kind, "train")["spec"] != spec
        bench.do("resume", f"{kind}/train")
    assert bench.get(f"{group}/{version}", kind, "train")["spec"] == spec
    assert bench.writes() == [("patch", plural, "train", 200)] * 2


def test_a_kind_whose_operator_is_not_installed_is_no_missing_object(bench: Bench) -> None:
    if bench.client.request("GET", "/apis/kubeflow.org/v2beta1").status_code == 200:
        bench.client.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "mpijobs.kubeflow.org")
        wait_for("MPIJob to go", lambda: bench.client.request("GET", "/apis/kubeflow.org/v2beta1/mpijobs").status_code == 404, WAIT_SECONDS)
    assert "does not serve MPIJob as kubeflow.org/v2beta1" in bench.refused("suspend", "MPIJob/train")


def _define(bench: Bench, group: str, version: str, kind: str, plural: str) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    bench.client.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
        }
    )
    wait_for(kind, lambda: bench.client.request("GET", f"/apis/{group}/{version}/{plural}").status_code == 200, WAIT_SECONDS)


def test_a_volume_grows_where_its_class_allows_it(bench: Bench) -> None:
    for name, allowed in ("elastic", True), ("rigid", False):
        bench.client.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": f"act-{name}"},
                "provisioner": "disk.example.com",
                "allowVolumeExpansion": allowed,
            }
        )
        spec = {"storageClassName": f"act-{name}", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
        bench.apply("v1", "PersistentVolumeClaim", name, spec={**spec, "volumeName": f"{bench.space}-{name}"})
        volume = {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": f"act-{name}"}
        bench.client.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{bench.space}-{name}"},
                "spec": {**volume, "csi": {"driver": "disk.example.com", "volumeHandle": name}},
            }
        )
        wait_for("a bound claim", partial(bench.is_bound, name), WAIT_SECONDS)

    def resizer() -> None:
        asked = bench.get("v1", "PersistentVolumeClaim", "elastic")["spec"]["resources"]["requests"]
        bench.client.patch("v1", "PersistentVolumeClaim", "elastic", {"status": {"capacity": asked}}, bench.space, "status")

    assert "does not allow expansion" in bench.refused("expand_pvc", "pvc/rigid", "size=20Gi")
    assert "never shrinks" in bench.refused("expand_pvc", "pvc/elastic", "size=5Gi")
    with bench.played(resizer):
        bench.do("expand_pvc", "pvc/elastic", "size=20Gi")
    assert bench.writes() == [("patch", "persistentvolumeclaims", "elastic", 200)]


def test_one_key_of_a_config_map_and_the_restart_of_who_reads_it(bench: Bench) -> None:
    bench.apply("v1", "ConfigMap", "web", data={"LOG_LEVEL": "info", "UPSTREAM": "http://db:1"})
    bench.deployment(container={"envFrom": [{"configMapRef": {"name": "web"}}]})
    bench.deployment("other")
    assert "does not use" in bench.refused("edit_configmap_key", "cm/web", "key=UPSTREAM", "value=http://db:2", "restart=Deployment/other")
    assert "secret" in bench.refused("edit_configmap_key", "cm/web", "key=LOG_LEVEL", "value=AKIAIOSFODNN7EXAMPLE password=hunter2hunter2")
    before = {p["metadata"]["uid"] for p in bench.pods()}
    bench.do("edit_configmap_key", "cm/web", "key=UPSTREAM", "value=http://db:2", "restart=Deployment/web")
    assert bench.get("v1", "ConfigMap", "web")["data"] == {"LOG_LEVEL": "info", "UPSTREAM": "http://db:2"}
    assert not before & {p["metadata"]["uid"] for p in bench.pods()}
    bench.do("edit_configmap_key", "cm/web", "key=UPSTREAM", "value=http://db:1")
    both = [("patch", "configmaps", "web", 200), ("patch", "deployments", "web", 200)]
    assert bench.writes() == [*both, both[0]]


def test_a_claim_that_nobody_reserved_is_deleted(bench: Bench) -> None:
    devices = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "absent.example.com"}}]}}
    bench.apply("resource.k8s.io/v1", "ResourceClaimTemplate", "gpu", spec={"spec": devices})
    bench.apply("resource.k8s.io/v1", "ResourceClaim", "mine", spec=devices)
    claims = [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]
    container = {"name": "work", "image": "example.com/work:v1", "resources": {"claims": [{"name": "gpu"}]}}
    bench.apply("v1", "Pod", "waiting", spec={"containers": [container], "resourceClaims": claims})

    def made() -> str:
        found = [c["metadata"]["name"] for c in bench.client.list("resource.k8s.io/v1", "ResourceClaim", bench.space)]
        return next((name for name in found if name.startswith("waiting-")), "")

    name = wait_for("the claim of the pod", made, WAIT_SECONDS)
    assert "not made from a template" in bench.refused("delete_claim", "resourceclaim/mine")
    bench.do("delete_claim", f"resourceclaim/{name}")
    assert bench.writes() == [("delete", "resourceclaims", name, 200)]
