"""C and D, over HTTP: whom the MCP server lets in, and where our own requests never go."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from cluster.egress import GuardedTransport
from cluster.endpoint import Endpoint
from cluster.errors import MonitoringError
from cluster.prometheus import Prometheus
from cluster.reading import MetricQuery
from cluster.reference import Window
from tests.agent.recordings import NOW
from tests.attacks.corpus import Attack, runnable
from tests.attacks.stage import planted
from tests.cluster.fake_monitoring import Reply, answering
from tests.mcp_server.issuer import running_issuer
from tests.mcp_server.serving import PUBLIC, serving
from tests.mcp_server.test_http import post

HOUR = Window(NOW - timedelta(hours=1), NOW)
METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.mark.parametrize("attack", [attack for attack in runnable("approvals", "http") if attack.id == 45], ids=str)
def test_45_a_token_made_for_somebody_else_opens_nothing_and_goes_nowhere(attack: Attack, tmp_path: Path) -> None:
    reader = planted(tmp_path / "recording", "nothing", "")
    with running_issuer() as issuer, serving(reader, issuer) as served:
        for claims in attack.input:
            token = issuer.token(PUBLIC, **claims)
            answer = post(served, Authorization=f"Bearer {token}")
            assert re.fullmatch(attack.expect, str(answer.status_code)), claims
            assert token not in answer.text + str(answer.headers)
        # Nobody's call was begun, so nothing could take the token along; the issuer is asked for its keys only.
        assert served.callers == []
        assert set(issuer.asked) <= {"/keys"}
        assert post(served, Authorization=f"Bearer {issuer.token(PUBLIC)}").status_code == 200


@pytest.mark.parametrize("attack", [attack for attack in runnable("approvals", "http") if attack.id == 46], ids=str)
def test_46_a_page_elsewhere_is_not_answered(attack: Attack, tmp_path: Path) -> None:
    with serving(planted(tmp_path / "recording", "nothing", "")) as served:
        for headers in attack.input:
            assert re.fullmatch(attack.expect, str(post(served, **headers).status_code)), headers
        assert served.callers == []
        assert post(served).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("attack", runnable("sinks", "monitoring"), ids=str)
async def test_55_nobody_asks_the_metadata_service(attack: Attack) -> None:
    for address in attack.input:
        assert re.search(attack.expect, await _refusal(address)), address


@pytest.mark.anyio
async def test_55_neither_by_a_redirect_nor_by_a_name_that_turns() -> None:
    with answering(Reply(302, b"", {"Location": METADATA})) as server:
        assert "302" in await _refusal(server.url)
        assert {asked.path for asked in server.seen} <= {"/api/v1/query_range", "/api/v1/query", "/api/v1/label/__name__/values"}
        assert len(server.seen) == 1
    # A name is resolved once: what is connected to is the address that was judged, whatever the name says a moment later.
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200)

    async with httpx2.AsyncClient(transport=GuardedTransport(httpx2.MockTransport(answer))) as client:
        await client.get("http://localhost:9090/")
    assert [request.url.host in ("127.0.0.1", "::1") for request in asked] == [True]


async def _refusal(address: str) -> str:
    """Why a Prometheus at this address told nothing."""
    try:
        async with Prometheus(Endpoint(address, timeout_seconds=5)) as prometheus:
            reading = await prometheus.metric(MetricQuery("up", expression="up"), HOUR)
    except MonitoringError as error:
        return str(error)
    assert reading.value == ()
    return " ".join(missing.detail for missing in reading.missing)
