"""Which clusters there are, and that no login ever fails silently."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.credentials import ExecPlugin, Impersonation, Server, Target, User, in_cluster, log_in
from cluster.errors import CredentialError, UnknownContextError
from cluster.fleet import Fleet
from cluster.kubeconfig import read_kubeconfig
from tests.cluster.fake_api import NOW

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
PATH = {"PATH": "/usr/bin:/bin"}


def kubeconfig(
    path: Path, *names: str, current: str = "", user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None
) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": f"c-{name}", "cluster": {"server": f"https://{name}.example.com", **(cluster or {})}} for name in names],
        "users": [{"name": f"u-{name}", "user": user if user is not None else {"token": f"t-{name}"}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": f"c-{name}", "user": f"u-{name}", "namespace": "ml"}} for name in names],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def fleet(path: Path) -> Fleet:
    return Fleet.find({}, Path("/nonexistent"), lambda: NOW, path)


def plugin(folder: Path, script: str) -> ExecPlugin:
    path = folder / "login.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return ExecPlugin(str(path))


def credential(status: dict[str, Any], version: str = "client.authentication.k8s.io/v1") -> str:
    return f"echo '{json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': status})}'"


async def login(user: User, **server: Any) -> Any:
    return await log_in(Target("test", Server("https://x", **server), user), NOW, PATH)


def test_contexts_are_listed_with_the_current_one_marked(tmp_path: Path) -> None:
    found = fleet(kubeconfig(tmp_path / "config", "prod", "dev", current="prod")).contexts()
    assert [(item.name, item.current, item.namespace) for item in found] == [("dev", False, "ml"), ("prod", True, "ml")]


def test_the_first_file_to_name_something_wins(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "a", "prod", current="prod")
    second = kubeconfig(tmp_path / "b", "prod", "dev", current="dev", user={"token": "other"})
    found = Fleet.find({"KUBECONFIG": f"{first}:{tmp_path}/missing:{second}"}, tmp_path, lambda: NOW)
    assert [item.name for item in found.contexts()] == ["dev", "prod"]
    chosen = found.target()
    assert chosen.context == "prod"
    assert chosen.user is not None
    assert chosen.user.token == "t-prod"


def test_an_unknown_context_names_the_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownContextError, match="Did you mean 'prod-east'"):
        fleet(kubeconfig(tmp_path / "config", "prod-east", "dev")).target("prod-esat")


def test_an_unknown_context_without_near_ones_lists_some(tmp_path: Path) -> None:
    names = [f"cluster-{number:02}" for number in range(15)]
    with pytest.raises(UnknownContextError, match=r"cluster-00.*and 5 more"):
        fleet(kubeconfig(tmp_path / "config", *names)).target("zzz")


def test_no_current_context_is_an_error_unless_there_is_one_only(tmp_path: Path) -> None:
    assert fleet(kubeconfig(tmp_path / "one", "only")).target().context == "only"
    with pytest.raises(UnknownContextError, match="sets no current one"):
        fleet(kubeconfig(tmp_path / "two", "a", "b")).target()


def test_nothing_configured_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(UnknownContextError, match=r"\.kube/config"):
        Fleet.find({}, tmp_path, lambda: NOW)
    with pytest.raises(UnknownContextError, match="no kubeconfig at"):
        fleet(tmp_path / "missing")


def test_a_broken_kubeconfig_is_named_and_its_values_are_not(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("users:\n- name: u\n  user: {token: [sesame-123]}\n")
    with pytest.raises(CredentialError, match=r"malformed at users\.0\.user\.token") as caught:
        fleet(path)
    assert "sesame" not in str(caught.value)
    path.write_text("sesame-123\n")
    with pytest.raises(CredentialError, match="malformed at the top") as caught:
        fleet(path)
    assert "sesame" not in str(caught.value)
    path.write_text("users: [token: sesame-123\n")
    with pytest.raises(CredentialError, match="cannot read the kubeconfig") as caught:
        fleet(path)
    assert "sesame" not in str(caught.value)


def test_a_context_that_names_nobody_known_is_an_error(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", "prod", current="prod")
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**document, "users": []}))
    with pytest.raises(CredentialError, match="u-prod"):
        fleet(path).target()
    path.write_text(yaml.safe_dump({**document, "clusters": []}))
    with pytest.raises(UnknownContextError, match="c-prod"):
        fleet(path).target()


def test_certificates_are_read_from_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    for name in ("ca.crt", "me.crt", "me.key"):
        (tmp_path / name).write_text(f"{PEM}# {name}")
    user = {"client-certificate": "me.crt", "client-key-data": base64.b64encode(b"key").decode()}
    chosen = fleet(kubeconfig(tmp_path / "config", "prod", user=user, cluster={"certificate-authority": "ca.crt"})).target()
    assert chosen.server.ca_pem is not None
    assert "ca.crt" in chosen.server.ca_pem
    assert chosen.user is not None
    assert chosen.user.key_pem == b"key"


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ({"client-certificate-data": base64.b64encode(b"x").decode()}, "only by half"),
        ({"client-certificate-data": "%%%", "client-key-data": "%%%"}, "not base64"),
        ({"client-certificate": "missing.crt", "client-key": "missing.key"}, "cannot read the client-certificate"),
    ],
)
def test_half_a_certificate_is_an_error(tmp_path: Path, user: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CredentialError, match=complaint):
        fleet(kubeconfig(tmp_path / "config", "prod", user=user)).target()


def test_impersonation_in_the_kubeconfig_is_honoured(tmp_path: Path) -> None:
    user = {"token": "t", "as": "alice", "as-groups": ["oncall"], "as-uid": "7"}
    assert fleet(kubeconfig(tmp_path / "config", "prod", user=user)).target().impersonate == Impersonation("alice", ("oncall",), "7")


def test_a_kubeconfig_that_is_nested_without_end_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[" * 100_000)
    with pytest.raises(CredentialError, match="nested too deep"):
        read_kubeconfig([tmp_path / "config"])


@pytest.mark.anyio
@pytest.mark.parametrize("user", [User("u"), User("u", unsupported="oidc")])
async def test_a_user_without_a_credential_fails_loudly(user: User) -> None:
    with pytest.raises(CredentialError, match="'u' of context 'test'"):
        await login(user)


@pytest.mark.anyio
async def test_static_credentials() -> None:
    assert (await login(User("u", token="t"))).authorization == "Bearer t"
    assert (await login(User("u", basic="dTpw"))).authorization == "Basic dTpw"
    certificate = await login(User("u", certificate_pem=b"c", key_pem=b"k"))
    assert (certificate.authorization, certificate.certificate_pem) == (None, b"c")
    assert "Bearer" not in repr(await login(User("u", token="t")))


@pytest.mark.anyio
async def test_a_token_file_is_read_again_each_minute(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abc\n")
    found = await login(User("u", token_file=file))
    assert (found.authorization, found.stale_at) == ("Bearer abc", NOW + timedelta(seconds=60))
    file.write_text("")
    with pytest.raises(CredentialError, match="is empty"):
        await login(User("u", token_file=file))


@pytest.mark.anyio
async def test_a_plugin_gives_token_and_expiry(tmp_path: Path) -> None:
    script = credential({"token": "abc", "expirationTimestamp": "2026-01-02T04:00:00Z"})
    found = await login(User("u", plugin=plugin(tmp_path, script)))
    assert found.authorization == "Bearer abc"
    assert found.stale_at is not None
    assert found.stale_at.hour == 4


@pytest.mark.anyio
async def test_a_plugin_learns_the_cluster_and_its_own_variables(tmp_path: Path) -> None:
    made = plugin(
        tmp_path, f'echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info; echo "$REGION" > {tmp_path}/region; ' + credential({"token": "t"})
    )
    told = ExecPlugin(made.command, env=(("REGION", "eu"),), provide_cluster_info=True, cluster_config={"audience": "x"})
    await login(User("u", plugin=told), ca_pem=PEM)
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == "https://x"
    assert base64.b64decode(info["spec"]["cluster"]["certificate-authority-data"]).decode() == PEM
    assert info["spec"]["cluster"]["config"] == {"audience": "x"}
    assert (tmp_path / "region").read_text() == "eu\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'session expired, run login' >&2; exit 3", "exit code 3: session expired"),
        ("echo nonsense", "not JSON"),
        ("echo '{}'", "no ExecCredential"),
        (credential({}), "neither token nor certificate"),
        (credential({"clientCertificateData": "x"}), "only by half"),
        (credential({"token": "t"}, "client.authentication.k8s.io/v1beta1"), "answered in client.authentication.k8s.io/v1beta1"),
        (credential({"token": "t", "expirationTimestamp": "soon"}), "no time"),
    ],
)
async def test_a_plugin_that_fails_is_an_error_and_not_anonymous(tmp_path: Path, script: str, complaint: str) -> None:
    with pytest.raises(CredentialError, match=complaint):
        await login(User("u", plugin=plugin(tmp_path, script)))


@pytest.mark.anyio
async def test_a_plugin_that_is_not_installed_shows_its_hint() -> None:
    missing = ExecPlugin("no-such-login-plugin", install_hint="Install it from example.com.")
    with pytest.raises(CredentialError, match=r"Install it from example\.com"):
        await login(User("u", plugin=missing))


def test_the_pods_own_account(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(environment, tmp_path) is None
    (tmp_path / "token").write_text("abc")
    with pytest.raises(CredentialError, match=r"ca\.crt is missing"):
        in_cluster(environment, tmp_path)
    (tmp_path / "ca.crt").write_text(PEM)
    (tmp_path / "namespace").write_text("tools\n")
    found = in_cluster(environment, tmp_path)
    assert found is not None
    assert (found.server.url, found.namespace, found.server.compress) == ("https://[fd00::1]:443", "tools", False)
    assert in_cluster({}, tmp_path) is None


def test_a_cluster_may_ask_for_answers_without_compression(tmp_path: Path) -> None:
    plain = kubeconfig(tmp_path / "plain", "prod", current="prod", cluster={"disable-compression": True})
    usual = kubeconfig(tmp_path / "usual", "prod", current="prod")
    assert [fleet(path).target().server.compress for path in (plain, usual)] == [False, True]


@pytest.mark.anyio
async def test_connecting_logs_in(tmp_path: Path) -> None:
    opened = await fleet(kubeconfig(tmp_path / "config", "prod", current="prod")).connect()
    async with opened:
        assert (opened.cluster, opened.namespace, opened.impersonating) == ("prod", "ml", False)
    with pytest.raises(CredentialError):
        await fleet(kubeconfig(tmp_path / "none", "prod", user={})).connect()


def test_the_inventory_does_not_need_the_client(imports_of: Callable[[str], set[str]]) -> None:
    assert not {name for name in imports_of("cluster.fleet") if name.partition(".")[0] in {"kubernetes", "aiohttp"}}
