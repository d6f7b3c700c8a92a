from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from cluster.endpoint import Endpoint
from cluster.errors import MonitoringError
from cluster.loki import Loki
from cluster.reading import LogText, Reading, Why
from cluster.reference import ContainerRef
from tests.cluster.fake_monitoring import Reply, Seen, answering

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONTAINER = ContainerRef("ml", "chat-0", "main")
FILE = "/var/log/pods/ml_chat-0_9d2f/main/{}.log"
NOTHING = {"status": "success", "data": {"resultType": "streams", "result": [], "stats": {}}}


def stream(*lines: tuple[int, str], **labels: str) -> dict[str, object]:
    """As Loki 3.5 gives one: nanoseconds as text, the newest line first."""
    values = [[str(int((NOW - timedelta(seconds=ago)).timestamp()) * 10**9), text] for ago, text in sorted(lines)]
    return {"stream": {"namespace": "ml", "pod": "chat-0", "container": "main", **labels}, "values": values}


def streams(*found: dict[str, object]) -> Reply:
    return Reply(body=json.dumps({"status": "success", "data": {"resultType": "streams", "result": found}}).encode())


async def read(
    reply: Reply | object, *, previous: bool = False, limit_bytes: int = 10_000, since: datetime | None = None, tenant: str | None = None
) -> tuple[Reading[LogText], list[Seen]]:
    with answering(reply) as server:  # type: ignore[arg-type]
        loki = Loki(Endpoint(f"{server.url}/logs/", "sesame", tenant=tenant, timeout_seconds=5))
        try:
            return await loki.logs(CONTAINER, NOW, previous=previous, limit_bytes=limit_bytes, since=since), server.seen
        finally:
            await loki.close()


async def test_the_lines_in_their_order_and_where_they_are_from() -> None:
    reading, seen = await read(streams(stream((30, "loading"), (10, "CUDA out of memory")), stream((20, "warming"))), tenant="ml")
    assert reading.value.lines == ("loading", "warming", "CUDA out of memory")
    assert reading.value.cut == "read from Loki, where runs of a container are not told apart"
    assert reading.missing == ()
    [asked] = seen
    assert (asked.path, asked.headers["authorization"], asked.headers["x-scope-orgid"]) == (
        "/logs/loki/api/v1/query_range",
        "Bearer sesame",
        "ml",
    )
    assert asked.query["query"] == ['{namespace="ml",pod="chat-0",container="main"}']
    assert asked.query["direction"] == ["backward"]
    assert int(asked.query["end"][0]) - int(asked.query["start"][0]) == 24 * 3600 * 10**9


async def test_the_run_before_the_last() -> None:
    now, before = stream((5, "second run"), filename=FILE.format(3)), stream((60, "first run dies"), filename=FILE.format(2))
    other = stream((90, "another pod of the same name"), filename="/var/log/pods/ml_chat-0_0000/main/2.log")
    reading, _ = await read(streams(now, before, other), previous=True)
    assert (reading.value.lines, reading.value.cut) == (("first run dies",), "read from Loki, run 2 of the container")
    reading, _ = await read(streams(now, before, other))
    assert reading.value.lines == ("second run",)
    reading, _ = await read(streams(now), previous=True)
    assert [(gap.why, gap.detail) for gap in reading.missing] == [(Why.NOT_FOUND, "it has no line of the run before the last")]


async def test_the_run_before_the_last_of_a_pod_that_was_made_anew() -> None:
    now, before = stream((5, "begins"), filename=FILE.format(0)), stream((60, "dies"), filename="/var/log/pods/ml_chat-0_0000/main/4.log")
    older = stream((90, "died earlier"), filename="/var/log/pods/ml_chat-0_0000/main/3.log")
    reading, _ = await read(streams(now, before, older), previous=True)
    assert (reading.value.lines, reading.value.cut) == (
        ("dies",),
        "read from Loki, run 4 of the container in an earlier pod of that name",
    )


async def test_labels_of_opentelemetry() -> None:
    def reply(seen: Seen) -> Reply:
        return streams(stream((1, "hello"))) if "k8s_pod_name" in seen.query["query"][0] else Reply(body=json.dumps(NOTHING).encode())

    reading, seen = await read(reply)
    assert (reading.value.lines, reading.cost.requests) == (("hello",), 2)
    assert seen[1].query["query"] == ['{k8s_namespace_name="ml",k8s_container_name="main"} | k8s_pod_name="chat-0"']


async def test_nothing_is_said_to_be_nothing() -> None:
    reading, seen = await read(Reply(body=json.dumps(NOTHING).encode()))
    assert (reading.missing[0].why, len(seen)) == (Why.NOT_FOUND, 2)
    assert reading.missing[0].namespace == "ml"


async def test_what_is_long_is_cut_at_its_beginning_and_says_so() -> None:
    long = streams(stream(*((ago, f"line {ago} {'x' * 80}") for ago in range(50))))
    reading, seen = await read(long, limit_bytes=1_000)
    assert reading.value.lines[-1].startswith("line 0 ")
    assert sum(map(len, reading.value.lines)) <= 1_000
    assert "earlier bytes left out" in (reading.value.cut or "")
    assert seen[0].query["limit"] == ["50"]


async def test_a_time_from_which_on() -> None:
    _, seen = await read(Reply(body=json.dumps(NOTHING).encode()), since=NOW - timedelta(minutes=5))
    assert int(seen[0].query["end"][0]) - int(seen[0].query["start"][0]) == 300 * 10**9


async def test_secrets_in_lines_are_taken_out() -> None:
    reading, _ = await read(streams(stream((1, "login with password=hunter2hunter2 failed"))))
    assert "hunter2" not in reading.value.lines[0]


@pytest.mark.parametrize(
    ("reply", "why", "said"),
    [
        (Reply(401, b"no org id\n"), Why.UNAUTHENTICATED, "monitoring.tenant"),
        (Reply(401, b"Unauthorized"), Why.UNAUTHENTICATED, "BEARER_TOKEN"),
        (Reply(400, b"parse error at line 1, col 2: syntax error"), Why.MALFORMED, "parse error at line 1"),
        (Reply(400, b"the query time range exceeds the limit (query length: 24h0m0s, limit: 1h)"), Why.MALFORMED, "exceeds the limit"),
        (Reply(429, b"too many outstanding requests"), Why.TIMEOUT, "too many outstanding requests"),
        (Reply(404, b"404 page not found"), Why.UNREACHABLE, "There is no Loki API"),
        (Reply(200, b"<html>log in</html>"), Why.UNREACHABLE, "with a web page; Check that this is the address of a Loki"),
        (Reply(200, b'{"data": {"resultType": "matrix", "result": []}}'), Why.MALFORMED, "a matrix, not lines"),
        (Reply(200, b'{"data": {"result": [{"values": [["soon", "x"]]}]}}'), Why.MALFORMED, "invalid literal"),
        (Reply(200, b'{"data": {"result": [{"values": [[null, "x"]]}]}}'), Why.MALFORMED, "int() argument must be"),
    ],
)
async def test_what_goes_wrong_is_said(reply: Reply, why: Why, said: str) -> None:
    [gap] = (await read(reply))[0].missing
    assert gap.why is why
    assert said in f"{gap.detail}; {gap.next_step}"
    assert "sesame" not in f"{gap}"


async def test_a_metadata_service_is_not_asked() -> None:
    loki = Loki(Endpoint("http://169.254.169.254/"))
    try:
        reading = await loki.logs(CONTAINER, NOW, previous=False, limit_bytes=100)
        assert reading.missing[0].why is Why.FORBIDDEN
        assert (await loki.answers())[0].why is Why.FORBIDDEN
    finally:
        await loki.close()


async def test_whether_it_is_there() -> None:
    with answering(Reply(body=b'{"status": "success", "data": ["pod"]}')) as server:
        loki = Loki(Endpoint(server.url))
        try:
            assert await loki.answers() == ()
        finally:
            await loki.close()
    with pytest.raises(MonitoringError, match="is no address of a Loki"):
        Loki(Endpoint("loki.example"))
