"""One connection over a real socket: as whom it asks, and when it logs in again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.connection import Connection
from cluster.credentials import ExecPlugin, Impersonation, Server, Target, User
from cluster.fleet import Fleet
from cluster.kinds import BY_NAME
from cluster.kube import KubeReader
from cluster.reading import Why
from cluster.reference import Scope
from tests.cluster.fake_api import NOW, FakeApi, Reply, Seen, connection, listing, pod, running, status

PODS = BY_NAME["Pod"]
ALL = Scope("test")


@pytest.mark.anyio
async def test_impersonation_sends_every_group(api: FakeApi) -> None:
    api.objects("/api/v1/pods", "Pod", [])
    identity = Impersonation("alice", ("oncall", "ml-team"), "u-1")
    async with KubeReader(connection(api, impersonate=identity)) as reader:
        await reader.objects(PODS, ALL)
    for request in api.requests:
        assert request.header("impersonate-user") == ["alice"]
        assert request.header("impersonate-group") == ["oncall", "ml-team"]
        assert request.header("impersonate-uid") == ["u-1"]
        assert request.header("authorization") == ["Bearer sesame"]


@pytest.mark.anyio
async def test_a_refused_token_is_renewed_once(api: FakeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    user = User("u", token_file=token)

    def answer(seen: Seen) -> Reply:
        return listing("Pod", [pod("a")]) if seen.header("authorization") == ["Bearer second"] else status(401, "Unauthorized", "expired")

    api.routes["/api/v1/pods"] = answer
    async with await Connection.open(Target("test", Server(api.url), user), {}, lambda: NOW) as opened:
        token.write_text("second")
        reading = await KubeReader(opened).objects(PODS, ALL)
    assert [fact.name for fact in reading.value] == ["a"]


def named(path: Path, server: str, token: str) -> Path:
    """A kubeconfig whose only user has a token of its own."""
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.anyio
async def test_a_token_that_was_replaced_in_the_kubeconfig_is_found_by_every_reader_at_once(api: FakeApi, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Reply:
        return listing("Pod", [pod("a")]) if seen.header("authorization") == ["Bearer second"] else status(401, "Unauthorized", "expired")

    for number in range(8):
        api.routes[f"/api/v1/namespaces/n{number}/pods"] = answer
    config = named(tmp_path / "config", api.url, "first")
    async with await Fleet.find({}, tmp_path, lambda: NOW, config).connect() as opened:
        named(config, api.url, "second")
        reading = await KubeReader(opened).objects(PODS, Scope("test", tuple(f"n{number}" for number in range(8))))
    assert reading.missing == ()
    assert len(reading.value) == 8


@pytest.mark.anyio
async def test_a_token_that_is_refused_and_not_replaced_is_tried_once(api: FakeApi, tmp_path: Path) -> None:
    api.reply("/api/v1/pods", status(401, "Unauthorized", "expired"))
    async with await Fleet.find({}, tmp_path, lambda: NOW, named(tmp_path / "config", api.url, "first")).connect() as opened:
        response = await opened.get("/api/v1/pods")
    assert (response.status, len(api.requests)) == (401, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("fate", ["moved", "gone"])
async def test_a_context_that_has_come_to_mean_another_cluster_is_not_followed(api: FakeApi, tmp_path: Path, fate: str) -> None:
    api.reply("/api/v1/pods", status(401, "Unauthorized", "expired"))
    config = named(tmp_path / "config", api.url, "first")
    async with await Fleet.find({}, tmp_path, lambda: NOW, config).connect() as opened, running() as other:
        if fate == "moved":
            named(config, other.url, "second")
        else:
            config.unlink()
        response = await opened.get("/api/v1/pods")
        assert response.why is Why.UNAUTHENTICATED
        assert ("Start again" if fate == "moved" else "is gone") in response.detail
        assert other.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize("compress", [True, False])
async def test_only_a_server_far_away_is_asked_to_compress(api: FakeApi, compress: bool) -> None:
    api.objects("/api/v1/pods", "Pod", [])
    async with await Connection.open(Target("test", Server(api.url, compress=compress), None), {}, lambda: NOW) as opened:
        await opened.get("/api/v1/pods")
    [asked] = api.requests[-1].header("accept-encoding")
    assert ("gzip" in asked, asked == "identity") == (compress, not compress)


@pytest.mark.anyio
async def test_a_stale_plugin_token_is_renewed_before_it_is_used(api: FakeApi, tmp_path: Path) -> None:
    script = tmp_path / "plugin"
    script.write_text(
        "#!/bin/sh\n"
        f"echo x >> {tmp_path}/runs\n"
        'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"t","expirationTimestamp":"2026-01-02T03:04:06Z"}}\'\n'
    )
    script.chmod(0o755)
    user = User("u", plugin=ExecPlugin(str(script)))
    api.objects("/api/v1/pods", "Pod", [])
    async with await Connection.open(Target("test", Server(api.url), user), {"PATH": "/usr/bin:/bin"}, lambda: NOW) as opened:
        await opened.get("/api/v1/pods")
    assert len((tmp_path / "runs").read_text().split()) == 2


@pytest.mark.anyio
async def test_a_proxy_is_taken_from_the_environment_and_no_password_from_netrc(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.objects("/api/v1/pods", "Pod", [])
    (tmp_path / "netrc").write_text("default login alice password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = Target("test", Server("http://api.invalid"), User("u", token="sesame"))
    async with await Connection.open(server, {"HTTP_PROXY": api.url}, lambda: NOW) as opened:
        assert (await opened.get("/api/v1/pods")).ok
    [asked] = api.requests
    assert asked.header("host") == ["api.invalid"]
    assert asked.header("authorization") == ["Bearer sesame"]
