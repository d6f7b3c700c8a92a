"""The server over HTTP, through the SDK's client in both eras and by hand where a client would not do it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest

from cluster.recorded import RecordedReader
from mcp_server.authentication import HTTP_CHANNEL
from mcp_server.errors import EndpointError
from mcp_server.http import BODY_LIMIT_BYTES, ICON_PATH, Endpoint, endpoint, icon_address, listen
from mcp_server.registry import Caller
from mcp_server.tools.catalogue import toolset
from tests.mcp_server.issuer import TokenIssuer, running_issuer
from tests.mcp_server.serving import PUBLIC, WAIT_SECONDS, Served, client, serving

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
DISCOVER = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with running_issuer() as running:
        yield running


def post(served: Served, body: Any = DISCOVER, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx2.post(served.address, content=content, headers={**HEADERS, **named}, timeout=WAIT_SECONDS)


def get(served: Served, path: str) -> httpx2.Response:
    return httpx2.get(served.address.removesuffix("/mcp") + path, timeout=WAIT_SECONDS)


def said(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


# ---- without tokens, on this machine


@ERAS
async def test_tools_answer_over_http_in_both_eras(reader: RecordedReader, mode: str) -> None:
    with serving(reader) as served:
        async with client(served, mode) as connected:
            assert [tool.name for tool in (await connected.list_tools()).tools] == [spec.name for spec in toolset()]
            found = await connected.call_tool("pod_diagnose", {"namespace": "ml", "name": "serve-5c9f7-abcde"})
        assert "Deployment/ml/serve: Image does not exist (proven" in said(found)
        assert served.callers == [Caller("", channel=HTTP_CHANNEL)]


async def test_sixteen_clients_at_once_get_the_same_answer(reader: RecordedReader) -> None:
    answers: list[str] = []
    with serving(reader) as served:

        async def one() -> None:
            async with client(served, "auto") as connected:
                answers.append(said(await connected.call_tool("pods_list", {})))

        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(one)
    assert len(answers) == 16
    assert len(set(answers)) == 1


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:80", "127.0.0.1.evil.example.com"])
async def test_a_page_that_rebinds_its_name_reads_nothing(reader: RecordedReader, host: str) -> None:
    with serving(reader) as served:
        assert post(served, Host=host).status_code == 421
        assert post(served, Host="sj.example.com").status_code == 200


async def test_only_listed_origins_are_answered(reader: RecordedReader) -> None:
    with serving(reader, origins=("https://chat.example.com",)) as served:
        assert post(served, Origin="https://evil.example.com").status_code == 403
        assert post(served, Origin="null").status_code == 403
        assert post(served, Origin="https://chat.example.com").status_code == 200
        assert post(served, Origin="http://localhost:6274").status_code == 200


async def test_a_body_over_the_limit_is_not_read(reader: RecordedReader) -> None:
    with serving(reader) as served:
        assert post(served, b"x" * (BODY_LIMIT_BYTES + 1)).status_code == 413
        assert post(served, b"{" * 100_000).status_code == 400
        assert get(served, "/healthz").text == "ok"


# ---- with tokens


@ERAS
async def test_the_holder_of_a_token_is_the_caller(reader: RecordedReader, issuer: TokenIssuer, mode: str) -> None:
    with serving(reader, issuer) as served:
        async with client(served, mode, issuer.token(PUBLIC)) as connected:
            assert not (await connected.call_tool("pods_list", {})).is_error
        assert served.callers == [Caller("oidc:alice", ("oidc:ml-team",), HTTP_CHANNEL)]


async def test_without_a_token_nothing_is_answered_but_where_to_get_one(reader: RecordedReader, issuer: TokenIssuer) -> None:
    with serving(reader, issuer) as served:
        refused = post(served)
        assert refused.status_code == 401
        challenge = refused.headers["www-authenticate"]
        assert 'scope="smokejumper:read"' in challenge
        assert 'resource_metadata="https://sj.example.com/.well-known/oauth-protected-resource/mcp"' in challenge
        found = get(served, "/.well-known/oauth-protected-resource/mcp").json()
        assert get(served, "/healthz").status_code == 200
    assert found["resource"] == PUBLIC
    assert found["authorization_servers"] == [issuer.url]
    assert found["scopes_supported"] == ["smokejumper:execute", "smokejumper:propose", "smokejumper:read"]
    assert served.callers == []


@pytest.mark.parametrize(
    "claims",
    [{"aud": "https://other.example.com/mcp"}, {"exp": 1_700_000_000}, {"sub": "system:admin", "aud": None}],
    ids=["another-audience", "expired", "no-audience"],
)
async def test_a_token_made_for_another_use_is_refused(reader: RecordedReader, issuer: TokenIssuer, claims: dict[str, Any]) -> None:
    with serving(reader, issuer) as served:
        assert post(served, Authorization=f"Bearer {issuer.token(PUBLIC, **claims)}").status_code == 401


async def test_a_token_without_the_scope_to_read_is_refused(reader: RecordedReader, issuer: TokenIssuer) -> None:
    with serving(reader, issuer) as served:
        refused = post(served, Authorization=f"Bearer {issuer.token(PUBLIC, scope='openid')}")
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="smokejumper:read"' in refused.headers["www-authenticate"]


async def test_a_client_is_told_which_scope_a_tool_needs(reader: RecordedReader, issuer: TokenIssuer) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "remediation_execute", "arguments": {}}}
    with serving(reader, issuer) as served:
        bearer = f"Bearer {issuer.token(PUBLIC)}"
        refused = post(served, call, Authorization=bearer, Mcp_Name="remediation_execute", Mcp_Method="tools/call")
    assert refused.status_code == 403
    assert 'scope="smokejumper:execute smokejumper:read"' in refused.headers["www-authenticate"]


async def test_a_tool_refuses_by_itself_what_the_token_has_no_scope_for(reader: RecordedReader, issuer: TokenIssuer) -> None:
    """The older era names no tool in its headers."""
    wish = {"action": "rollout_undo", "kind": "Deployment", "namespace": "ml", "name": "serve"}
    with serving(reader, issuer) as served:
        async with client(served, "legacy", issuer.token(PUBLIC)) as connected:
            refused = await connected.call_tool("remediation_propose", wish)
        assert refused.is_error
        assert "needs the scope smokejumper:propose" in said(refused)
        assert served.callers == []
        async with client(served, "legacy", issuer.token(PUBLIC, scope="smokejumper:read smokejumper:propose")) as connected:
            await connected.call_tool("remediation_propose", wish)
        assert [caller.subject for caller in served.callers] == ["oidc:alice"]


async def test_a_session_serves_only_whom_it_was_opened_by(reader: RecordedReader, issuer: TokenIssuer) -> None:
    with serving(reader, issuer) as served:
        opened = post(served, Authorization=f"Bearer {issuer.token(PUBLIC)}")
        session = opened.headers["mcp-session-id"]
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        for who, status in (("mallory", 404), ("alice", 200)):
            bearer = f"Bearer {issuer.token(PUBLIC, sub=who)}"
            assert post(served, listing, Authorization=bearer, Mcp_Session_Id=session).status_code == status


async def test_the_picture_is_shown_to_anybody_at_the_servers_own_address(reader: RecordedReader, issuer: TokenIssuer) -> None:
    with serving(reader, issuer) as served:
        picture = get(served, ICON_PATH)
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "default-src 'none'" in picture.headers["content-security-policy"]
    assert icon_address(Endpoint(PUBLIC, (), ())) == "https://sj.example.com/icon.svg"


async def test_keys_that_cannot_be_read_are_our_trouble(reader: RecordedReader) -> None:
    with running_issuer() as gone:
        token = gone.token(PUBLIC)
    with serving(reader, gone) as served:
        answer = post(served, Authorization=f"Bearer {token}")
    assert answer.status_code == 503
    assert "no token can be checked" in answer.text
    assert token not in answer.text


# ---- where it may listen


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "sj.example.com:80"])
def test_other_machines_are_not_served_without_tokens(bind: str) -> None:
    with pytest.raises(EndpointError, match="no issuer of tokens is configured"):
        listen(bind, authenticated=False)


@pytest.mark.parametrize("bind", ["8765", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ":8765"])
def test_an_address_is_a_host_and_a_port(bind: str) -> None:
    with pytest.raises(EndpointError, match="HOST:PORT"):
        listen(bind, authenticated=True)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EndpointError, match="cannot listen"):
            listen(f"127.0.0.1:{taken.getsockname()[1]}", authenticated=False)


def test_a_server_for_others_knows_its_own_address() -> None:
    with listen("0.0.0.0:0", authenticated=True) as listening:
        with pytest.raises(EndpointError, match=r"http\.url is not set"):
            endpoint(listening, None, (), ())
        with pytest.raises(EndpointError, match="end in /mcp"):
            endpoint(listening, "https://sj.example.com/", (), ())
        served = endpoint(listening, PUBLIC, ("sj.internal:8443",), ())
    assert served.hosts == ("sj.example.com", "sj.internal:8443")
    assert served.origins == ()
