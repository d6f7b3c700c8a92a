"""Every action for real: proposed, approved by others, executed, verified, and undone where it can be. The audit log is the witness.

The account that executes holds the role that `smokejumper rbac` prints and nothing else that writes, so these tests also prove that
the role is enough.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oncall.cli import run
from tests.lab.api import ApiError, wait_for
from tests.lab.granting import granted as executor_granted
from tests.lab.lab import Lab

ROOT = Path(__file__).parent.parent.parent
NODE_LABEL = "actions.smokejumper.dev/bench"
LOADER = "lab:loader"
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


class Bench:
    """A namespace, and people who ask, approve and execute in it by the command line."""

    def __init__(self, lab: Lab, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, space: str) -> None:
        self.lab, self.state, self.space = lab, state, space
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self.client = lab.client(LOADER)
        self.say("people", "add", "alice", "--group", "sre-oncall", "--group", "break-glass", "--os-user", getpass.getuser())
        self.tokens = [self.say("people", "add", name, "--group", "sre-oncall")[1].strip() for name in ("bob", "carol")]
        self.since = lab.audit.mark()

    def say(self, *words: str, token: str | None = None) -> tuple[int, str, str]:
        self._monkeypatch.delenv("SMOKEJUMPER_TOKEN", raising=False)
        if token is not None:
            self._monkeypatch.setenv("SMOKEJUMPER_TOKEN", token)
        self._capsys.readouterr()
        code = run(["--state", str(self.state), "--kubeconfig", str(self.lab.kubeconfig("executor")), *words])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def propose(self, action: str, subject: str, *settings: str) -> tuple[str, str]:
        """(id, digest) of a proposal that everybody who must has approved."""
        words = [word for setting in settings for word in ("--set", setting)]
        code, out, err = self.say("propose", action, subject, "-n", self.space, *words)
        assert code == 0, out + err
        proposal = out.split()[0]
        shown = json.loads(self.say("proposals", "show", proposal, "--json")[1])
        for token in self.tokens[: sum(shown["requirement"]["approvals"].values())]:
            code, out, err = self.say("approve", proposal, "--digest", shown["digest"], token=token)
            assert code == 0, out + err
        return proposal, shown["digest"]

    def refused(self, action: str, subject: str, *settings: str) -> str:
        words = [word for setting in settings for word in ("--set", setting)]
        code, out, err = self.say("propose", action, subject, "-n", self.space, *words)
        assert code in (1, 2), out + err
        return out + err

    def do(self, action: str, subject: str, *settings: str, ends: str = "succeeded") -> str:
        proposal, _ = self.propose(action, subject, *settings)
        code, out, err = self.say("execute", proposal)
        assert out.split()[1:2] == [ends], out + err
        assert (code == 0) == (ends == "succeeded")
        return out

    def state_of(self, proposal: str) -> str:
        return str(json.loads(self.say("proposals", "show", proposal, "--json")[1])["state"])

    def elsewhere(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Execute or recover in a process of its own, which can die and whose clock can be ahead."""
        command = [sys.executable, "-m", "tests.oncall.executing", str(self.state), str(self.lab.kubeconfig("executor")), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def writes(self) -> list[tuple[str, str, str, int | None]]:
        """(verb, resource, name, answer) of all that our account wrote since the last time this was asked.

        A conflict is no write: a controller had just written the status, and the executor looked again.
        """
        found = [write for write in self.lab.audit.writes("executor", self.since) if write.code != 409]
        self.since = self.lab.audit.mark()
        resource = [f"{w.resource}/{w.subresource}" if w.subresource else w.resource for w in found]
        return [(w.verb, kind, w.name or "", w.code) for w, kind in zip(found, resource, strict=True)]

    def get(self, version: str, kind: str, name: str, *, cluster_wide: bool = False) -> dict[str, Any]:
        found = self.client.get(version, kind, name, None if cluster_wide else self.space)
        assert found is not None
        return found

    def apply(self, version: str, kind: str, name: str, **parts: Any) -> None:
        labels = parts.pop("metadata", {})
        where = {} if kind == "Node" else {"namespace": self.space}
        self.client.apply({"apiVersion": version, "kind": kind, "metadata": {"name": name, **where, **labels}, **parts})

    def deployment(
        self, name: str = "web", image: str = "example.com/web:v1", replicas: int = 1, ready: int | None = None, **pod: Any
    ) -> None:
        annotations = pod.pop("annotations", {})
        template = {
            "metadata": {"labels": {"app": name}, "annotations": annotations},
            "spec": {"containers": [{"name": "server", "image": image, **pod.pop("container", {})}], **pod},
        }
        spec = {"replicas": replicas, "progressDeadlineSeconds": 6, "selector": {"matchLabels": {"app": name}}, "template": template}
        self.apply("apps/v1", "Deployment", name, spec=spec)
        wanted = replicas if ready is None else ready
        wait_for(f"{wanted} ready of {name}", lambda: self._is_rolled_out(name, wanted), 40)

    def _is_rolled_out(self, name: str, ready: int) -> bool:
        found = self.get("apps/v1", "Deployment", name)
        status = found.get("status", {})
        return bool(status.get("observedGeneration") == found["metadata"]["generation"] and status.get("readyReplicas", 0) >= ready)

    def budget(self, allowed: int, **bound: int) -> None:
        """A disruption budget over the pods of `web`, once its controller allows so many disruptions."""
        self.apply("policy/v1", "PodDisruptionBudget", "web", spec={**bound, "selector": {"matchLabels": {"app": "web"}}})

        def says() -> bool:
            found = self.get("policy/v1", "PodDisruptionBudget", "web")
            status = found.get("status", {})
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return bool(seen and status.get("disruptionsAllowed") == allowed and status.get("currentHealthy", 0) > 0)

        wait_for("the budget", says, 20)

    def is_bound(self, name: str) -> bool:
        return bool(self.get("v1", "PersistentVolumeClaim", name).get("status", {}).get("phase") == "Bound")

    def pods(self, name: str = "web") -> list[dict[str, Any]]:
        return [p for p in self.client.list("v1", "Pod", self.space, f"app={name}") if "deletionTimestamp" not in p["metadata"]]

    @contextlib.contextmanager
    def played(self, turn: Callable[[], None]) -> Iterator[None]:
        """Somebody's part in the cluster (a kubelet's, an operator's), played until the block ends."""
        over = threading.Event()

        def play() -> None:
            while not over.wait(0.3):
                with contextlib.suppress(ApiError):
                    turn()

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="module")
def granted(lab: Lab) -> Iterator[None]:
    """The user `executor` holds the role that we print."""
    with executor_granted(lab):
        yield


@pytest.fixture
def bench(lab: Lab, granted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with lab.namespace("act") as space:
        bench = Bench(lab, tmp_path / "state", capsys, monkeypatch, space)
        yield bench
        code, out, err = bench.say("audit", "verify")
        assert code == 0, out + err


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
    bench.do("scale", "deploy/web", "replicas=2")
    assert bench.get("apps/v1", "Deployment", "web")["spec"]["replicas"] == 2
    assert bench.writes() == [("patch", "deployments", "web", 200)] * 3


def test_an_autoscaler_keeps_its_replicas(bench: Bench) -> None:
    bench.deployment()
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    bench.apply("autoscaling/v2", "HorizontalPodAutoscaler", "web", spec={"scaleTargetRef": reference, "maxReplicas": 4})
    assert "HorizontalPodAutoscaler/web owns the replicas" in bench.refused("scale", "deploy/web", "replicas=3")
    assert bench.writes() == []


def test_a_pod_is_deleted_and_its_controller_makes_another(bench: Bench) -> None:
    bench.deployment(replicas=2)
    victim, other = sorted(pod["metadata"]["name"] for pod in bench.pods())
    bench.apply("v1", "Pod", "alone", spec={"containers": [{"name": "work", "image": "example.com/work:v1"}]})
    assert "controller" in bench.refused("delete_pod", "pod/alone")
    bench.do("delete_pod", f"pod/{victim}")
    wait_for("the other pod", lambda: len(bench.pods()) == 2, 30)
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
    bench.deployment(annotations=fault, ready=0)
    bench.deployment(image="example.com/web:v2", annotations=fault)
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
    wait_for("replacements", lambda: len(bench.pods()) == 5, 20)
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
        wait_for("MPIJob to go", lambda: bench.client.request("GET", "/apis/kubeflow.org/v2beta1/mpijobs").status_code == 404, 30)
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
    wait_for(kind, lambda: bench.client.request("GET", f"/apis/{group}/{version}/{plural}").status_code == 200, 20)


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
        wait_for("a bound claim", partial(bench.is_bound, name), 30)

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

    name = wait_for("the claim of the pod", made, 30)
    assert "not made from a template" in bench.refused("delete_claim", "resourceclaim/mine")
    bench.do("delete_claim", f"resourceclaim/{name}")
    assert bench.writes() == [("delete", "resourceclaims", name, 200)]


@pytest.fixture
def nodes(bench: Bench) -> Iterator[tuple[str, str]]:
    """Two nodes of the test's own, which only its pods tolerate."""
    names = (f"{bench.space}-a", f"{bench.space}-b")
    for name in names:
        labels = {NODE_LABEL: bench.space, "lab.smokejumper.dev/kubelet": "played", "lab.smokejumper.dev/machine": "cpu"}
        mig = {"nvidia.com/mig.capable": "true", "nvidia.com/mig.config": "all-disabled"}
        taint = {"key": NODE_LABEL, "value": bench.space, "effect": "NoSchedule"}
        bench.apply("v1", "Node", name, metadata={"labels": {**labels, **mig, "kubernetes.io/hostname": name}}, spec={"taints": [taint]})
    for name in names:
        wait_for(f"{name} ready", partial(_is_ready, bench, name), 30)
    yield names
    for name in names:
        bench.client.delete("v1", "Node", name)


def _is_ready(bench: Bench, name: str) -> bool:
    node = bench.get("v1", "Node", name, cluster_wide=True)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))
    return ready and not any("not-ready" in taint["key"] for taint in node["spec"].get("taints", ()))


def test_taints_cordons_and_a_mig_profile(bench: Bench, nodes: tuple[str, str]) -> None:
    node = nodes[0]
    before = bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"]
    bench.do("taint", f"node/{node}", "key=example.com/suspect", "value=gpu")
    assert len(bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"]) == len(before) + 1
    bench.do("untaint", f"node/{node}", "key=example.com/suspect")
    assert bench.get("v1", "Node", node, cluster_wide=True)["spec"]["taints"] == before
    assert "managed by the node controllers" in bench.refused("taint", f"node/{node}", "key=node.kubernetes.io/unreachable")
    assert "Cordon it first" in bench.refused("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
    bench.do("cordon", f"node/{node}")

    def mig_manager() -> None:
        bench.client.patch("v1", "Node", node, {"metadata": {"labels": {"nvidia.com/mig.config.state": "success"}}})

    with bench.played(mig_manager):
        bench.do("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
        assert bench.get("v1", "Node", node, cluster_wide=True)["metadata"]["labels"]["nvidia.com/mig.config"] == "all-1g.10gb"
        bench.do("set_mig_profile", f"node/{node}", "profile=all-disabled")
    bench.do("uncordon", f"node/{node}")
    assert bench.writes() == [("patch", "nodes", node, 200)] * 6


def test_an_interrupted_verification_is_taken_up_and_nothing_is_sent_again(bench: Bench, nodes: tuple[str, str]) -> None:
    node = nodes[0]
    bench.do("cordon", f"node/{node}")
    proposal, digest = bench.propose("set_mig_profile", f"node/{node}", "profile=all-1g.10gb")
    command = [sys.executable, "-c", "from oncall.cli import main; main()", "--state", str(bench.state)]
    words = ["--kubeconfig", str(bench.lab.kubeconfig("executor")), "execute", proposal]
    with subprocess.Popen([*command, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # Nobody plays the MIG manager, so the verification goes on until it is interrupted.
        wait_for("the verification", lambda: bench.state_of(proposal) == "verifying", 60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"The execution of {proposal} was interrupted" in err
    # A clock that is behind: however slow this machine is, the lease is not over.
    refused = bench.elsewhere("execute", proposal, digest, "--seconds-later", "-600")
    assert "its change is made, and whether it worked is being verified" in refused.stderr, refused.stdout + refused.stderr
    assert f"'smokejumper execute {proposal}'" in refused.stderr

    def mig_manager() -> None:
        bench.client.patch("v1", "Node", node, {"metadata": {"labels": {"nvidia.com/mig.config.state": "success"}}})

    with bench.played(mig_manager):
        done = bench.elsewhere("execute", proposal, digest, "--seconds-later", "90")
    assert done.stdout.split() == ["succeeded"], done.stdout + done.stderr
    assert bench.writes() == [("patch", "nodes", node, 200)] * 2


def _settled(bench: Bench, nodes: tuple[str, str], replicas: int = 3) -> list[str]:
    """Pods on the first node, and a second one that is open to them."""
    bench.client.patch("v1", "Node", nodes[1], {"spec": {"unschedulable": True}})
    toleration = {"key": NODE_LABEL, "operator": "Exists"}
    bench.deployment(replicas=replicas, nodeSelector={NODE_LABEL: bench.space}, tolerations=[toleration])
    bench.apply("policy/v1", "PodDisruptionBudget", "web", spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}})
    wait_for(
        "the budget", lambda: bench.get("policy/v1", "PodDisruptionBudget", "web").get("status", {}).get("disruptionsAllowed") == 1, 20
    )
    bench.client.patch("v1", "Node", nodes[1], {"spec": {"unschedulable": None}})
    return sorted(p["metadata"]["name"] for p in bench.pods())


def test_a_drain_waits_for_the_budget_and_moves_each_pod_once(bench: Bench, nodes: tuple[str, str]) -> None:
    names = _settled(bench, nodes)
    bench.do("drain", f"node/{nodes[0]}")
    assert {p["spec"].get("nodeName") for p in bench.pods()} == {nodes[1]}
    cordon, *evictions = bench.writes()
    assert cordon == ("patch", "nodes", nodes[0], 200)
    assert sorted(name for _, kind, name, code in evictions if code == 201 and kind == "pods/eviction") == names
    assert {code for *_, code in evictions} <= {201, 429}
    bench.do("uncordon", f"node/{nodes[0]}")


@pytest.mark.parametrize("step", ["change:sent", "change:recorded"])
def test_a_drain_that_was_killed_goes_on_and_moves_each_pod_once(bench: Bench, nodes: tuple[str, str], step: str) -> None:
    names = _settled(bench, nodes, replicas=2)
    proposal, digest = bench.propose("drain", f"node/{nodes[0]}")

    assert bench.elsewhere("execute", proposal, digest, "--die-at", step).returncode == -9
    recovered = bench.elsewhere("recover", "--seconds-later", "90")
    assert recovered.stdout.split() == [proposal, "succeeded"], recovered.stdout + recovered.stderr
    done = [(kind, name) for _, kind, name, code in bench.writes() if code in (200, 201)]
    assert done == [("nodes", nodes[0]), *(("pods/eviction", name) for name in names)]


def test_the_kill_switch_stops_a_drain_and_what_was_done_stays(bench: Bench, nodes: tuple[str, str]) -> None:
    _settled(bench, nodes)
    bench.apply("policy/v1", "PodDisruptionBudget", "web", spec={"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}})
    wait_for(
        "the budget", lambda: bench.get("policy/v1", "PodDisruptionBudget", "web").get("status", {}).get("disruptionsAllowed") == 0, 20
    )
    proposal, _ = bench.propose("drain", f"node/{nodes[0]}", "wait_seconds=60")
    started = threading.Event()

    def stop() -> None:
        if not started.is_set() and bench.get("v1", "Node", nodes[0], cluster_wide=True)["spec"].get("unschedulable"):
            started.set()
            code = "import sys; from oncall.cli import run; sys.exit(run(sys.argv[1:]))"
            words = ["--state", str(bench.state), "kill-switch", "on", "--reason", "test"]
            subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True)

    with bench.played(stop):
        code, out, err = bench.say("execute", proposal)
    assert code == 1, out + err
    assert "Stopped after 1 of 4 requests" in out
    assert bench.get("v1", "Node", nodes[0], cluster_wide=True)["spec"]["unschedulable"] is True
    assert {code for _, kind, _, code in bench.writes() if kind == "pods/eviction"} <= {429}
    assert "deny-kill-switch" in bench.refused("uncordon", f"node/{nodes[0]}")
    assert bench.say("kill-switch", "off", "--reason", "over", token=bench.tokens[0])[0] == 0
    bench.do("uncordon", f"node/{nodes[0]}")
