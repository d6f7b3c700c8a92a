"""One disposable control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on loopback ports.

Everything about it (data, logs, credentials) is in one temporary folder, and everything stops with the process that made it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import yaml

from tests.lab import certificates, kwok
from tests.lab.api import ApiClient, ApiError
from tests.lab.audit import AuditLog
from tests.lab.build import Binaries
from tests.lab.processes import LabStartError, Processes, free_ports
from tests.yamltext import documents

HERE = Path(__file__).parent
START_SECONDS = 240.0
KUBELET_LEASE_SECONDS = 8  # a played kubelet renews every quarter of it
NODE_GRACE_SECONDS = 12  # the node lifecycle controller's patience, 50 s in production

# Who may log in, and the groups of each; rbac.yaml says what those without system:masters may do.
USERS: dict[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    "reader": (),
    "executor": (),
    "dryrun": (),
    "alice": ("oncall",),
    "bob": ("approvers",),
    "lab:loader": ("system:masters",),
    "lab:kubelet": ("system:masters",),
    "system:kube-controller-manager": ("system:control-plane",),
    "system:kube-scheduler": ("system:control-plane",),
}
# The contexts of the kubeconfig for the write path, and the user of each. The first, which reads, is the cluster's name.
SUPERVISED = {"lab": "reader", "executor": "executor", "dryrun": "dryrun"}


class ControlPlane:
    """A running control plane. Use as a context manager, or call `close`."""

    def __init__(self, binaries: Binaries, *, keep_logs_in: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="smokejumper-lab-"))
        self.logs = keep_logs_in or self.folder / "logs"
        self.binaries = binaries
        self._tokens = {user: secrets.token_hex(16) for user in USERS}
        self._clients: dict[str, ApiClient] = {}
        self.start_seconds = 0.0
        for sub in (self.logs, self.folder / "credentials", self.folder / "container-logs", self.folder / "etcd"):
            sub.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(self.folder, self.logs)
        try:
            self._start()
        except BaseException as error:
            tails = "\n".join(self._processes.tail(name) for name in self._processes.pids)
            self.close()
            if isinstance(error, LabStartError):
                raise LabStartError(f"the lab did not start: {error}\n{tails}") from error
            raise

    # -- what tests use

    @property
    def supervisor_pid(self) -> int:
        return self._processes.supervisor_pid

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by program name."""
        return dict(self._processes.pids)

    def log_text(self, program: str) -> str:
        """What a program has logged so far."""
        return (self.logs / f"{program}.log").read_text("utf-8", errors="replace")

    def stage_errors(self) -> list[str]:
        """What kwok could not play: templates that fail are told nowhere but in its log. Objects deleted meanwhile, and what would be made
        in a namespace that goes, are no errors."""
        records = (json.loads(line) for line in self.log_text("kwok").splitlines() if line.startswith("{"))
        gone = ("not found", "because it is being terminated")
        failed = (item for item in records if item.get("level") == "ERROR" and not any(words in item.get("err", "") for words in gone))
        return [f"{record.get('stage')}: {record['msg']}: {record.get('err')}" for record in failed]

    def kubeconfig(self, user: str) -> Path:
        """The path of a kubeconfig whose only context, `lab`, is this user. Users are the keys of USERS."""
        return self.folder / "credentials" / f"{user.replace(':', '-')}.kubeconfig"

    @property
    def supervised_kubeconfig(self) -> Path:
        """The path of a kubeconfig with the contexts of SUPERVISED: all that a person needs to walk the write path."""
        return self.folder / "credentials" / "kubeconfig"

    def token(self, user: str) -> str:
        """The user's bearer token."""
        return self._tokens[user]

    def client(self, user: str = "admin") -> ApiClient:
        """A client of this user, closed with the lab."""
        if user not in self._clients:
            self._clients[user] = ApiClient(self.server, self._tokens[user], self._certificates.authority)
        return self._clients[user]

    @property
    def authority(self) -> Path:
        """The PEM file to verify the server with."""
        return self._certificates.authority

    @property
    def audit(self) -> AuditLog:
        """The audit log of this server, from its start."""
        return AuditLog(self.folder / "audit.log", self._knock)

    def _knock(self, path: str) -> None:
        self.client("lab:loader").request("GET", path).raise_for_status()

    def require_alive(self) -> None:
        """Raises LabStartError, with the end of its log, if one of the programs has died."""
        self._processes.require_alive()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the lab is stopped by somebody else; False after the timeout."""
        return self._processes.wait(timeout_seconds)

    def close(self) -> None:
        """Stop everything and delete the folder; returns when nothing runs any more. May be called twice."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._processes.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- how it starts

    def _start(self) -> None:
        began = time.monotonic()
        etcd_port, peer_port, api_port, manager_port, scheduler_port, self.kubelet_port = free_ports(6)
        self.server = f"https://127.0.0.1:{api_port}"
        self._certificates = certificates.make(self.folder / "credentials")
        self._write_credentials()
        etcd = f"http://127.0.0.1:{etcd_port}"
        peer = f"http://127.0.0.1:{peer_port}"
        self._processes.start("etcd", [str(self.binaries.etcd), *self._etcd_flags(etcd, peer)])
        self._wait("etcd", lambda: httpx2.get(f"{etcd}/health", timeout=1).status_code == 200)
        self._processes.start("kube-apiserver", [str(self.binaries.kube_apiserver), *self._apiserver_flags(etcd, api_port)])
        self._wait("kube-apiserver", lambda: self.client("lab:loader").request("GET", "/readyz").status_code == 200)
        manager_flags = [*self._component_flags("system:kube-controller-manager", manager_port), *self._manager_flags()]
        self._processes.start("kube-controller-manager", [str(self.binaries.kube_controller_manager), *manager_flags])
        scheduler_flags = self._component_flags("system:kube-scheduler", scheduler_port)
        self._processes.start("kube-scheduler", [str(self.binaries.kube_scheduler), *scheduler_flags])
        loader = self.client("lab:loader")
        for manifest in (*documents(HERE / "rbac.yaml"), *documents(HERE / "kwok-logs-crd.yaml")):
            loader.apply(manifest)
        self._wait("kube-apiserver", lambda: loader.request("GET", "/apis/kwok.x-k8s.io/v1alpha1/logs").status_code == 200)
        self._processes.start("kwok", [str(self.binaries.kwok), *self._kwok_flags()])
        for manifest in documents(HERE / "nodes.yaml"):
            loader.apply(manifest)
        self._wait("kwok", lambda: self._nodes_ready(loader))
        self._wait("kube-controller-manager", lambda: loader.get("v1", "ServiceAccount", "default", "default") is not None)
        self.start_seconds = time.monotonic() - began

    def _wait(self, program: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if ready():
                    return
            except (httpx2.HTTPError, ApiError, OSError) as error:
                problem = str(error)
            else:
                problem = "not ready"
            self._processes.require_alive()
            if time.monotonic() > deadline:
                raise LabStartError(f"{program} is not ready after {START_SECONDS:.0f} s: {problem}")
            time.sleep(0.05)

    @staticmethod
    def _nodes_ready(client: ApiClient) -> bool:
        nodes = client.list("v1", "Node")
        ready = [
            one
            for node in nodes
            for one in node.get("status", {}).get("conditions", ())
            if (one["type"], one["status"]) == ("Ready", "True")
        ]
        # The lifecycle controller takes its not-ready taint away only after it has seen the node.
        tainted = [
            node for node in nodes if any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", ()))
        ]
        return bool(nodes) and len(ready) == len(nodes) and not tainted

    def _write_credentials(self) -> None:
        rows = (f'{self._tokens[user]},{user},{user},"{",".join(groups)}"' for user, groups in USERS.items())
        tokens = self.folder / "credentials" / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("\n".join(rows) + "\n", "utf-8")
        for user in USERS:
            self._write_kubeconfig(self.kubeconfig(user), {"lab": user})
        self._write_kubeconfig(self.supervised_kubeconfig, SUPERVISED)

    def _write_kubeconfig(self, path: Path, contexts: dict[str, str]) -> None:
        """Contexts by name and user; the first is the current one."""
        cluster = {"server": self.server, "certificate-authority": str(self._certificates.authority)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}} for user in contexts.values()],
            "contexts": [{"name": name, "context": {"cluster": "lab", "user": user}} for name, user in contexts.items()],
            "current-context": next(iter(contexts)),
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")

    def _etcd_flags(self, client_url: str, peer_url: str) -> list[str]:
        return [
            f"--data-dir={self.folder / 'etcd'}",
            "--name=lab",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=lab={peer_url}",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ]

    def _apiserver_flags(self, etcd: str, port: int) -> list[str]:
        files = self._certificates
        return [
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / 'credentials'}",
            f"--tls-cert-file={files.server}",
            f"--tls-private-key-file={files.server_key}",
            f"--token-auth-file={self.folder / 'credentials' / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={files.service_account_key}",
            f"--service-account-signing-key-file={files.service_account_key}",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            # As clusters of 1.32 and 1.33 serve them, converted by the server from what it keeps.
            "--runtime-config=resource.k8s.io/v1beta1=true,resource.k8s.io/v1beta2=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={files.authority}",
            f"--audit-policy-file={HERE / 'audit-policy.yaml'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-maxsize=0",
            # The 'kubernetes' Service would get loopback endpoints, which its validation forbids.
            "--endpoint-reconciler-type=none",
            "--shutdown-send-retry-after=false",
        ]

    def _component_flags(self, user: str, port: int) -> list[str]:
        path = self.kubeconfig(user)
        return [
            f"--kubeconfig={path}",
            f"--authentication-kubeconfig={path}",
            f"--authorization-kubeconfig={path}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    def _manager_flags(self) -> list[str]:
        return [
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._certificates.service_account_key}",
            f"--root-ca-file={self._certificates.authority}",
            f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
            "--node-monitor-period=1s",
        ]

    def _kwok_flags(self) -> list[str]:
        config = self.folder / "kwok.yaml"
        config.write_text(kwok.configuration(HERE / "stages", self.folder / "container-logs"), "utf-8")
        return [
            f"--kubeconfig={self.kubeconfig('lab:kubelet')}",
            f"--config={config}",
            "--enable-crds=Logs",
            "--manage-nodes-with-label-selector=lab.smokejumper.dev/kubelet=played",
            f"--server-address=127.0.0.1:{self.kubelet_port}",
            "--node-ip=127.0.0.1",
            f"--node-port={self.kubelet_port}",
            f"--node-lease-duration-seconds={KUBELET_LEASE_SECONDS}",
            f"--tls-cert-file={self._certificates.server}",
            f"--tls-private-key-file={self._certificates.server_key}",
            "--cidr=10.244.0.0/16",
        ]
