from __future__ import annotations

import httpx2
import pytest

from cluster.egress import GuardedTransport, RefusedAddressError, refused
from tests.cluster.fake_monitoring import Reply, answering

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
    ],
)
def test_addresses_that_nothing_of_ours_talks_to(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.96.0.10", "192.168.1.2", "100.64.0.1", "203.0.113.7", "2001:db8::1", "fd12::1"]
)
def test_where_monitoring_lives(address: str) -> None:
    assert not refused(address)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]:9090/", "http://0.0.0.0/", "http://2852039166/"]
)
async def test_nothing_is_sent_there_however_it_is_written(url: str) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200)

    async with httpx2.AsyncClient(transport=GuardedTransport(httpx2.MockTransport(answer))) as client:
        with pytest.raises(RefusedAddressError, match="where clouds serve their metadata"):
            await client.get(url)
    assert asked == []


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200)

    async with httpx2.AsyncClient(transport=GuardedTransport(httpx2.MockTransport(answer))) as client:
        await client.get("http://localhost:9090/path")
    assert asked[-1].url.host in ("127.0.0.1", "::1")
    assert asked[-1].headers["host"] == "localhost:9090"
    assert asked[-1].extensions["sni_hostname"] == "localhost"


async def test_a_name_with_two_addresses_of_which_one_answers() -> None:
    with answering(Reply()) as server:
        async with httpx2.AsyncClient(transport=GuardedTransport(httpx2.AsyncHTTPTransport())) as client:
            assert (await client.get(server.url.replace("127.0.0.1", "localhost"))).status_code == 200


async def test_a_name_that_leads_nowhere() -> None:
    async with httpx2.AsyncClient(transport=GuardedTransport(httpx2.AsyncHTTPTransport())) as client:
        with pytest.raises(httpx2.ConnectError, match=r"nowhere\.invalid has no address"):
            await client.get("http://nowhere.invalid/")
