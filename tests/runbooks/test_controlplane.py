from __future__ import annotations

from typing import Any

from runbooks.detectors import controlplane
from runbooks.finding import Finding
from tests.runbooks.manifests import deployment, manifest, pod
from tests.runbooks.worlds import codes, world

TOO_MANY = "the server has received too many requests: Too many requests, please try again later."


def lease(name: str, renewed: str) -> str:
    return manifest("Lease", name, namespace="kube-system", spec={"holderIdentity": "cp-1", "renewTime": renewed})


def found(text: str, **arguments: Any) -> list[Finding]:
    made = world(text, **arguments)
    return [finding for detector in controlplane.DETECTORS for finding in detector(made)]


def test_an_api_server_that_turns_several_away() -> None:
    pods = "".join(pod(name) for name in ("a", "b", "c"))
    told = {("shop", name, "main"): TOO_MANY for name in ("a", "b", "c")}
    assert codes(found(pods, logs=told)) == {"controlplane.overload"}
    assert found(pods, logs={("shop", "a", "main"): TOO_MANY}) == []


def test_a_leader_that_stopped_renewing() -> None:
    fresh, stale = "2026-01-15T11:59:55Z", "2026-01-15T11:40:00Z"
    assert codes(found(lease("kube-controller-manager", stale) + lease("kube-scheduler", fresh))) == {"controlplane.component-down"}
    assert codes(found(lease("kube-scheduler", stale) + lease("kube-controller-manager", fresh))) == {"controlplane.scheduler-down"}
    assert found(lease("kube-scheduler", fresh) + lease("kube-controller-manager", fresh)) == []


def test_leases_that_are_all_old_only_show_an_old_recording() -> None:
    stale = "2026-01-15T11:40:00Z"
    assert found(lease("kube-scheduler", stale) + lease("kube-controller-manager", stale)) == []


def test_workloads_that_nobody_reconciles() -> None:
    def changed(at: str, observed: int = 1) -> str:
        fields = {"generation": 2, "managedFields": [{"manager": "kubectl", "time": at}]}
        status = {"observedGeneration": observed}
        return "".join(deployment(name, {"app": name}, metadata=fields, status=status) for name in ("a", "b", "c"))

    assert codes(found(changed("2026-01-15T11:30:00Z"))) == {"controlplane.component-down"}
    assert found(changed("2026-01-15T11:59:30Z")) == []
    assert found(changed("2026-01-15T11:30:00Z", observed=2)) == []


def test_one_client_that_is_turned_away_again_and_again() -> None:
    line = "error retrieving resource lock: the server has received too many requests and has asked us to try again later (get leases x)"
    assert codes(found(pod("a"), logs={("shop", "a", "main"): f"{line}\n" * 3})) == {"controlplane.overload"}
    assert found(pod("a"), logs={("shop", "a", "main"): f"{line}\n" * 2}) == []


def test_an_etcd_that_has_run_into_its_quota() -> None:
    etcd = pod("etcd-cp", {"component": "etcd"}, namespace="kube-system")
    said = {("kube-system", "etcd-cp", "main"): '{"level":"warn","msg":"alarm raised","alarm":"NOSPACE","from":"8e9e05c52164694d"}'}
    assert [(item.code, item.subject.name) for item in found(etcd, logs=said)] == [("controlplane.etcd", "etcd-cp")]
    assert found(etcd, logs={("kube-system", "etcd-cp", "main"): "etcdserver: request timed out"}) == []


def test_an_etcd_that_is_slow_again_and_again() -> None:
    etcd = pod("etcd-cp", {"component": "etcd"}, namespace="kube-system")
    slow = '{"level":"warn","msg":"slow fdatasync","took":"4.31s","expected-duration":"1s"}\n'
    said = {("kube-system", "etcd-cp", "main"): slow * 3}
    assert [(item.code, item.subject.name) for item in found(etcd, logs=said)] == [("controlplane.etcd-slow", "etcd-cp")]
    long_ago = slow * 3 + '{"level":"info","msg":"finished scheduled compaction"}\n' * 200
    assert found(etcd, logs={("kube-system", "etcd-cp", "main"): long_ago}) == []
    assert found(etcd, logs={("kube-system", "etcd-cp", "main", True): slow * 3}) == []
    # Once a night is not again and again.
    nightly = "".join(slow.replace('"msg"', f'"ts":"2026-01-{day}T03:00:00.1Z","msg"') for day in (13, 14, 15))
    assert found(etcd, logs={("kube-system", "etcd-cp", "main"): nightly}) == []
    # Of several members the one that says so.
    other = pod("etcd-a", {"component": "etcd"}, namespace="kube-system")
    assert [item.subject.name for item in found(other + etcd, logs=said)] == ["etcd-cp"]
    # Another program's etcd is not the cluster's.
    assert found(pod("store"), logs={("shop", "store", "main"): slow * 3}) == []
