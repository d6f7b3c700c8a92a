"""How a cluster is reached and who we are to it: kubeconfig entries, exec plugins, token files and the in-cluster account.

The client's own loader logs a failed exec plugin and goes on as `system:anonymous`, ignores `as:` and `provideClusterInfo`, and
leaves token refresh to its caller (kubernetes 37.0.2, aio/config/kube_config.py, read). A login that silently becomes anonymous
reads as "everything is forbidden", so here a user from whom no credential comes out is an error. This module writes no
kubeconfig, keeps no token longer than its login, and never puts one into a message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import ssl
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
from msgspec import Struct, field

from cluster.errors import CredentialError
from guardrails.redact import present

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EXEC_TIMEOUT_SECONDS = 60
MESSAGE_LIMIT = 400


class Impersonation(Struct, frozen=True):
    """The identity that requests are made as (`Impersonate-User`, `-Group`, `-Uid`); ours must be allowed to impersonate it."""

    user: str
    groups: tuple[str, ...] = ()
    uid: str | None = None


class ExecPlugin(Struct, frozen=True):
    """A client-go credential plugin (client.authentication.k8s.io)."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    provide_cluster_info: bool = False
    cluster_config: Any = None
    install_hint: str = ""
    folder: Path | None = None


class User(Struct, frozen=True):
    """What a kubeconfig says of one user. At most one of `plugin`, `token_file`, `token` and `basic` is used, in that order."""

    name: str
    plugin: ExecPlugin | None = None
    token_file: Path | None = None
    token: str | None = None
    certificate_pem: bytes | None = None
    key_pem: bytes | None = None
    basic: str | None = None
    unsupported: str | None = None


class Server(Struct, frozen=True):
    """Where an API server is and how its certificate is checked. `ca_pem` None means the system's roots.

    Without `compress` it is asked for plain answers: beside the server, its compression takes longer than the bytes that it saves
    (https://github.com/kubernetes/kubernetes/issues/112296).
    """

    url: str
    ca_pem: str | None = None
    verify: bool = True
    tls_server_name: str | None = None
    proxy_url: str | None = None
    compress: bool = True


class Target(Struct, frozen=True):
    """One cluster under the name of its context. `user` None means that the configuration names none: requests carry no credential."""

    context: str
    server: Server
    user: User | None
    namespace: str | None = None
    impersonate: Impersonation | None = None


class Login(Struct, frozen=True):
    """A credential that is ready to be sent. `stale_at` is when it should be asked for again; None means never."""

    authorization: str | None = field(default=None)
    certificate_pem: bytes | None = None
    key_pem: bytes | None = None
    stale_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Login(stale_at={self.stale_at})"


async def log_in(target: Target, now: datetime, environment: Mapping[str, str]) -> Login:
    """The credential of a target, fresh. CredentialError when the target names a user and no credential came out."""
    user = target.user
    if user is None:
        return Login()
    if user.plugin is not None:
        return await _from_plugin(user, user.plugin, target.server, environment)
    if user.token_file is not None:
        return _with_certificate(user, f"Bearer {_read_token(user)}", stale_at=_after_a_minute(now))
    if user.token or user.basic or user.certificate_pem:
        authorization = f"Bearer {user.token}" if user.token else f"Basic {user.basic}" if user.basic else None
        return _with_certificate(user, authorization, stale_at=None)
    if user.unsupported:
        raise CredentialError(
            f"user {user.name!r} of context {target.context!r} logs in through the auth-provider {user.unsupported!r}, "
            "which Smokejumper does not run. Use an exec plugin for it (for OIDC: kubelogin) and try again."
        )
    raise CredentialError(
        f"user {user.name!r} of context {target.context!r} has no token, certificate or exec plugin, so requests would be anonymous. "
        "Log in to the cluster again, or repair that user in the kubeconfig."
    )


def in_cluster(environment: Mapping[str, str], folder: Path = ACCOUNT_FOLDER) -> Target | None:
    """The target of a process that runs in a pod, from the service environment and the account's files; None elsewhere."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    token, authority = folder / "token", folder / "ca.crt"
    if not host or not port or not token.is_file():
        return None
    if not authority.is_file():
        raise CredentialError(f"{authority} is missing, so the API server cannot be verified. Mount the service account fully.")
    address = f"[{host}]" if ":" in host else host
    namespace = folder / "namespace"
    return Target(
        "in-cluster",
        Server(f"https://{address}:{port}", authority.read_text(encoding="ascii"), compress=False),
        User("service account", token_file=token),
        namespace.read_text(encoding="utf-8").strip() if namespace.is_file() else None,
    )


def _with_certificate(user: User, authorization: str | None, stale_at: datetime | None) -> Login:
    return Login(authorization, user.certificate_pem, user.key_pem, stale_at)


def _after_a_minute(now: datetime) -> datetime:
    # The kubelet rewrites projected tokens well before they expire; client-go reads the file again each minute as well.
    return datetime.fromtimestamp(now.timestamp() + 60, tz=now.tzinfo)


def _read_token(user: User) -> str:
    assert user.token_file is not None
    try:
        token = user.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialError(f"cannot read the token file {user.token_file} of user {user.name!r}: {error}.") from error
    if not token:
        raise CredentialError(f"the token file {user.token_file} of user {user.name!r} is empty. Log in to the cluster again.")
    return token


async def _from_plugin(user: User, plugin: ExecPlugin, server: Server, environment: Mapping[str, str]) -> Login:
    status = await _run_plugin(user, plugin, server, environment)
    token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if bool(certificate) != bool(key):
        raise CredentialError(f"exec plugin {plugin.command!r} of user {user.name!r} gave a client certificate and key only by half.")
    if not token and not certificate:
        raise CredentialError(f"exec plugin {plugin.command!r} of user {user.name!r} gave neither token nor certificate. Run it by hand.")
    expiry = status.get("expirationTimestamp")
    try:
        stale_at = datetime.fromisoformat(expiry.replace("Z", "+00:00")) if isinstance(expiry, str) else None
    except ValueError as error:
        raise CredentialError(f"exec plugin {plugin.command!r} of user {user.name!r} gave an expiry that is no time.") from error
    return Login(
        f"Bearer {token}" if token else None,
        certificate.encode() if certificate else None,
        key.encode() if key else None,
        stale_at,
    )


async def _run_plugin(user: User, plugin: ExecPlugin, server: Server, environment: Mapping[str, str]) -> dict[str, Any]:
    where = f"exec plugin {plugin.command!r} of user {user.name!r}"
    command = plugin.command
    if plugin.folder is not None and os.sep in command:
        # client-go: a command with a path separator is relative to the kubeconfig that names it.
        command = str(plugin.folder / command)
    try:
        # fail_after would leave the child running when it fires; the finally below ends it.
        process = await asyncio.create_subprocess_exec(
            command,
            *plugin.args,
            env={**environment, **dict(plugin.env), "KUBERNETES_EXEC_INFO": json.dumps(_exec_info(plugin, server))},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = f" {present(plugin.install_hint.strip(), MESSAGE_LIMIT)}" if plugin.install_hint else " Install it or put it on the PATH."
        raise CredentialError(f"{where} cannot be started: {error.strerror or error}.{hint}") from error
    try:
        with anyio.fail_after(EXEC_TIMEOUT_SECONDS):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise CredentialError(f"{where} did not answer within {EXEC_TIMEOUT_SECONDS} s. It may wait for a login.") from error
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
    if process.returncode != 0:
        said = present(err.decode("utf-8", "replace").strip(), MESSAGE_LIMIT)
        raise CredentialError(f"{where} failed with exit code {process.returncode}: {said or 'it said nothing'}. Log in again and retry.")
    try:
        document = json.loads(out)
    except ValueError as error:
        raise CredentialError(f"{where} printed something that is not JSON. Run it by hand.") from error
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(status, dict) or document.get("kind") != "ExecCredential":
        raise CredentialError(f"{where} printed no ExecCredential with a status. Run it by hand.")
    if document.get("apiVersion") != plugin.api_version:
        raise CredentialError(f"{where} answered in {document.get('apiVersion')}, the kubeconfig asks for {plugin.api_version}.")
    return status


def _exec_info(plugin: ExecPlugin, server: Server) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.provide_cluster_info:
        cluster = {
            "server": server.url,
            "tls-server-name": server.tls_server_name,
            "insecure-skip-tls-verify": not server.verify or None,
            "certificate-authority-data": base64.b64encode(server.ca_pem.encode()).decode() if server.ca_pem else None,
            "proxy-url": server.proxy_url,
            "config": plugin.cluster_config,
        }
        spec["cluster"] = {key: value for key, value in cluster.items() if value is not None}
    return {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}


def decode_pem(data: str, what: str) -> bytes:
    """The PEM text in a `…-data` field. CredentialError names `what` when it is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CredentialError(f"{what} is not base64. Repair it in the kubeconfig.") from error


def load_identity(context: ssl.SSLContext, login: Login, folder: Path) -> None:
    """Puts a client certificate into a TLS context. OpenSSL only takes files, so they live in `folder` for that long."""
    if login.certificate_pem is None or login.key_pem is None:
        return
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(login.certificate_pem)
    key.touch(mode=0o600)
    key.write_bytes(login.key_pem)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise CredentialError(f"the client certificate and key do not fit together: {error}. Log in to the cluster again.") from error
