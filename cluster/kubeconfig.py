"""Kubeconfig files, read and merged the way kubectl does: the first file to name a cluster, user or context wins.

Pure parsing: nothing here runs a plugin or opens a connection, and no file is ever written.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.credentials import ExecPlugin, Impersonation, Server, Target, User, decode_pem
from cluster.errors import CredentialError, UnknownContextError

MAXIMUM_BYTES = 4 * 1024 * 1024


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, alias_generator=_hyphenated)


class Extension(_Entry):
    name: str = ""
    extension: Any = None


class ClusterEntry(_Entry):
    server: str = ""
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    disable_compression: bool = False
    extensions: tuple[Extension, ...] | None = None


class PluginVariable(_Entry):
    name: str
    value: str = ""


class PluginEntry(_Entry):
    command: str
    args: tuple[str, ...] | None = None
    env: tuple[PluginVariable, ...] | None = None
    api_version: str = Field("client.authentication.k8s.io/v1", alias="apiVersion")
    install_hint: str | None = Field(None, alias="installHint")
    provide_cluster_info: bool = Field(False, alias="provideClusterInfo")


class AuthProvider(_Entry):
    name: str = ""


class UserEntry(_Entry):
    token: str | None = None
    token_file: str | None = Field(None, alias="tokenFile")
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    username: str | None = None
    password: str | None = None
    plugin: PluginEntry | None = Field(None, alias="exec")
    auth_provider: AuthProvider | None = None
    impersonate_user: str | None = Field(None, alias="as")
    impersonate_groups: tuple[str, ...] | None = Field(None, alias="as-groups")
    impersonate_uid: str | None = Field(None, alias="as-uid")


class ContextEntry(_Entry):
    cluster: str = ""
    user: str | None = None
    namespace: str | None = None


class NamedCluster(_Entry):
    name: str
    cluster: ClusterEntry = ClusterEntry()


class NamedUser(_Entry):
    name: str
    user: UserEntry | None = None


class NamedContext(_Entry):
    name: str
    context: ContextEntry = ContextEntry()


class File(_Entry):
    clusters: tuple[NamedCluster, ...] | None = None
    users: tuple[NamedUser, ...] | None = None
    contexts: tuple[NamedContext, ...] | None = None
    current_context: str | None = None


class Kubeconfig(BaseModel):
    """The merged files. `folders` tells relative paths of which file an entry came from."""

    model_config = ConfigDict(frozen=True)

    paths: tuple[Path, ...]
    clusters: dict[str, tuple[ClusterEntry, Path]]
    users: dict[str, tuple[UserEntry, Path]]
    contexts: dict[str, ContextEntry]
    current: str | None

    def target(self, name: str) -> Target:
        """What a context means, with every file it names read. Raises UnknownContextError and CredentialError."""
        context = self.contexts[name]
        if context.cluster not in self.clusters:
            raise UnknownContextError(f"context {name!r} names the cluster {context.cluster!r}, which no kubeconfig file describes.")
        cluster, folder = self.clusters[context.cluster]
        if not cluster.server:
            raise UnknownContextError(f"cluster {context.cluster!r} of context {name!r} has no server address. Add it to the kubeconfig.")
        user, impersonate = None, None
        if context.user:
            if context.user not in self.users:
                raise CredentialError(f"context {name!r} names the user {context.user!r}, which no kubeconfig file describes.")
            entry, user_folder = self.users[context.user]
            user = _user(context.user, entry, user_folder, cluster)
            if entry.impersonate_user:
                impersonate = Impersonation(entry.impersonate_user, entry.impersonate_groups or (), entry.impersonate_uid)
        return Target(name, _server(context.cluster, cluster, folder), user, context.namespace, impersonate)


def read_kubeconfig(paths: Iterable[Path]) -> Kubeconfig | None:
    """The merge of the files that exist; None when none does. CredentialError names the file that cannot be understood."""
    clusters: dict[str, tuple[ClusterEntry, Path]] = {}
    users: dict[str, tuple[UserEntry, Path]] = {}
    contexts: dict[str, ContextEntry] = {}
    current: str | None = None
    found: list[Path] = []
    for path in paths:
        if not path.is_file():
            continue
        document = _parse(path)
        found.append(path)
        for cluster in document.clusters or ():
            clusters.setdefault(cluster.name, (cluster.cluster, path.parent))
        for user in document.users or ():
            users.setdefault(user.name, (user.user or UserEntry.model_validate({}), path.parent))
        for context in document.contexts or ():
            contexts.setdefault(context.name, context.context)
        current = current or document.current_context or None
    if not found:
        return None
    return Kubeconfig(paths=tuple(found), clusters=clusters, users=users, contexts=contexts, current=current)


def _parse(path: Path) -> File:
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise CredentialError(f"{path} is larger than {MAXIMUM_BYTES} bytes, which no kubeconfig is. Check KUBECONFIG.")
        return File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CredentialError(
            f"cannot read the kubeconfig {path}: {_first_line(error)}. Repair it, or name another with KUBECONFIG."
        ) from error
    except RecursionError as error:
        raise CredentialError(f"the kubeconfig {path} is nested too deep to be one. Name another with KUBECONFIG.") from error
    except ValidationError as error:
        # Only places are shown: the values beside them may be credentials.
        wrong = ((".".join(map(str, item["loc"])) or "the top", item["msg"]) for item in error.errors(include_input=False)[:3])
        places = ", ".join(f"{place} ({said})" for place, said in wrong)
        raise CredentialError(f"the kubeconfig {path} is malformed at {places}. Repair it, or name another with KUBECONFIG.") from error


def _first_line(error: Exception) -> str:
    # A YAML error quotes the line it stumbled over, and that may be a token.
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return f"{problem} in line {mark.line + 1}" if problem and mark else str(error).partition("\n")[0]


def _server(name: str, entry: ClusterEntry, folder: Path) -> Server:
    authority = _pem(entry.certificate_authority_data, entry.certificate_authority, folder, f"certificate-authority of cluster {name!r}")
    return Server(
        entry.server.rstrip("/"),
        authority.decode("utf-8", "replace") if authority else None,
        not entry.insecure_skip_tls_verify,
        entry.tls_server_name,
        entry.proxy_url,
        not entry.disable_compression,
    )


def _user(name: str, entry: UserEntry, folder: Path, cluster: ClusterEntry) -> User:
    plugin = None
    if entry.plugin is not None:
        settings = next((item.extension for item in cluster.extensions or () if item.name == "client.authentication.k8s.io/exec"), None)
        plugin = ExecPlugin(
            entry.plugin.command,
            entry.plugin.args or (),
            tuple((variable.name, variable.value) for variable in entry.plugin.env or ()),
            entry.plugin.api_version,
            entry.plugin.provide_cluster_info,
            settings,
            entry.plugin.install_hint or "",
            folder,
        )
    basic = base64.b64encode(f"{entry.username}:{entry.password}".encode()).decode() if entry.username and entry.password else None
    certificate = _pem(entry.client_certificate_data, entry.client_certificate, folder, f"client-certificate of user {name!r}")
    key = _pem(entry.client_key_data, entry.client_key, folder, f"client-key of user {name!r}")
    if bool(certificate) != bool(key):
        raise CredentialError(f"user {name!r} has a client certificate and key only by half. Repair it in the kubeconfig.")
    return User(
        name,
        plugin,
        folder / entry.token_file if entry.token_file else None,
        entry.token,
        certificate,
        key,
        basic,
        entry.auth_provider.name if entry.auth_provider else None,
    )


def _pem(data: str | None, file: str | None, folder: Path, what: str) -> bytes | None:
    if data:
        return decode_pem(data, f"{what} (data)")
    if not file:
        return None
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise CredentialError(f"cannot read the {what}: {error}.") from error
