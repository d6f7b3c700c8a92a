"""The control plane is the real one, its people may do what they should, and nothing of it stays behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.lab import build
from tests.lab.api import ApiError, Object, wait_for
from tests.lab.cluster import USERS, ControlPlane
from tests.lab.lab import Lab
from tests.lab.processes import LabStartError, alive

# Long: nothing here tests how quick a machine is.
SECONDS = 240


def _status(lab: Lab, user: str, method: str, path: str, body: Object | None = None, query: dict[str, str] | None = None) -> int:
    return lab.client(user).request(method, path, body=body, query=query).status_code


def test_is_the_version_that_go_mod_pins(lab: Lab) -> None:
    version = lab.client().json("GET", "/version")
    assert version["gitVersion"] == build.kubernetes_version()
    assert (version["major"], version["minor"]) == ("1", "37")


def test_listens_on_loopback_only(lab: Lab) -> None:
    listening = _listening_ports(set(lab.pids.values()))
    assert len(listening) >= 6
    assert {address for address, _ in listening} == {"0100007F"}


def _listening_ports(pids: set[int]) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets on which these processes listen, addresses as /proc/net/tcp writes them."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("needs /proc")
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = link.readlink().name if link.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A is LISTEN
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


def test_fleet_is_ready(lab: Lab) -> None:
    nodes = {node["metadata"]["name"]: node for node in lab.client("reader").list("v1", "Node")}
    assert {"cpu-0", "cpu-1", "gpu-0", "gpu-1"} <= set(nodes)
    gpu = nodes["gpu-0"]["status"]
    assert (gpu["capacity"]["nvidia.com/gpu"], gpu["allocatable"]["nvidia.com/gpu"]) == ("8", "8")
    assert gpu["nodeInfo"]["kubeletVersion"] == build.kubernetes_version()
    ready = [one for one in gpu["conditions"] if one["type"] == "Ready"]
    assert (ready[0]["status"], ready[0]["reason"]) == ("True", "KubeletReady")


def test_kubelets_renew_their_leases(lab: Lab) -> None:
    def renewed() -> str:
        lease = lab.client().get("coordination.k8s.io/v1", "Lease", "cpu-0", "kube-node-lease")
        return str(lease["spec"]["renewTime"]) if lease else ""

    before = wait_for("a lease", renewed, SECONDS)
    wait_for("its renewal", lambda: renewed() != before, SECONDS)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/pods", True),
        ("GET", "/api/v1/nodes", True),
        ("GET", "/api/v1/namespaces/default/configmaps", True),
        ("GET", "/apis/resource.k8s.io/v1/resourceslices", True),
        ("GET", "/apis/apps/v1/namespaces/default/controllerrevisions", True),
        ("GET", "/api/v1/secrets", False),
        ("GET", "/api/v1/namespaces/default/secrets", False),
        ("DELETE", "/api/v1/nodes/cpu-0", False),
        ("PATCH", "/apis/apps/v1/namespaces/default/deployments/none", False),
    ],
)
def test_reader_reads_no_secret_and_writes_nothing(lab: Lab, method: str, path: str, *, allowed: bool) -> None:
    assert _status(lab, "reader", method, path, {} if method == "PATCH" else None) == (200 if allowed else 403)


def test_executor_may_restart_but_not_create(lab: Lab) -> None:
    rules = lab.client("executor")

    def may(verb: str, group: str, resource: str) -> bool:
        attributes = {"namespace": "default", "verb": verb, "group": group, "resource": resource}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
        return bool(rules.json("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)["status"]["allowed"])

    assert may("patch", "apps", "deployments")
    assert not may("create", "apps", "deployments")
    assert not may("get", "", "secrets")


def test_a_stranger_is_turned_away(lab: Lab) -> None:
    with lab.client("reader")._http.stream("GET", "/api/v1/pods", headers={"Authorization": "Bearer nobody"}) as answer:
        assert answer.status_code == 401


def test_every_user_has_a_private_kubeconfig(lab: Lab) -> None:
    for user in USERS:
        path = lab.kubeconfig(user)
        assert path.stat().st_mode & 0o077 == 0
        assert lab.token(user) in path.read_text()
    assert len({lab.token(user) for user in USERS}) == len(USERS)


def test_container_logs_go_through_the_api_server(lab: Lab) -> None:
    with lab.namespace() as space:
        (lab.container_logs / space).mkdir()
        line = "2026-11-24T12:00:00.000000000Z stdout F listening on 8080\n"
        (lab.container_logs / space / "web.log").write_text(line * 3)
        lab.apply(_pod(space, "web", {"lab.smokejumper.dev/log": "web.log"}))
        reader = lab.client("reader")
        wait_for("the log", lambda: _log(lab, space, "web"), SECONDS)
        assert reader.log(space, "web", "main") == "listening on 8080\n" * 3
        with pytest.raises(ApiError, match="400"):
            reader.log(space, "web", "main", previous=True)
        with pytest.raises(ApiError, match="403"):
            lab.client("executor").log(space, "web", "main")


def _log(lab: Lab, space: str, pod: str) -> str:
    try:
        return lab.client("reader").log(space, pod, "main")
    except ApiError:
        return ""


def _pod(space: str, name: str, annotations: dict[str, str]) -> Object:
    containers = [{"name": "main", "image": "registry.example.com/lab/main:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "annotations": annotations},
        "spec": {"containers": containers},
    }


def test_a_program_that_does_not_start_is_told_with_its_log(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "kube-apiserver"
    program.write_text("#!/bin/sh\necho unknown flag\nexit 1\n")
    program.chmod(0o755)
    binaries = dataclasses.replace(lab.binaries, kube_apiserver=program)
    with pytest.raises(LabStartError, match=r"(?s)kube-apiserver has exited.*unknown flag"):
        ControlPlane(binaries)


def test_nothing_stays_behind_but_logs_that_are_kept(lab: Lab, tmp_path: Path) -> None:
    with ControlPlane(lab.binaries, keep_logs_in=tmp_path / "kept") as other:
        pids = [other.supervisor_pid, *other.pids.values()]
        folder = other.folder
        assert len(pids) == 6
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert not folder.exists()
    assert "Serving securely" in (tmp_path / "kept" / "kube-apiserver.log").read_text()
