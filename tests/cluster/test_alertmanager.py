from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from cluster.alertmanager import ALERTS_LIMIT, Alertmanager
from cluster.endpoint import Endpoint
from cluster.monitoring import Monitoring, merged
from cluster.prometheus import Prometheus as Source
from cluster.reading import MetricQuery, Reading, Why
from cluster.reference import Scope, Window
from cluster.telemetry import Alert
from tests.cluster.fake_monitoring import Reply, Seen, answering

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
# As Alertmanager 0.25.0 answered, but for the times.
ALERTS = b"""[{"annotations":{"summary":"GPU 3 slows down","runbook_url":"http://169.254.169.254/"},"endsAt":"2026-01-01T01:05:00.574Z",
"fingerprint":"23ddf1ff456bd6ca","receivers":[{"name":"x"}],"startsAt":"2026-01-01T00:10:00.574Z",
"status":{"inhibitedBy":[],"silencedBy":[],"state":"active"},"updatedAt":"2026-01-01T00:59:00.574Z","generatorURL":"http://prom/graph",
"labels":{"alertname":"GPUThermalSlowdown","namespace":"ml","node":"n0","severity":"page"}}]"""


async def alerts(reply: Reply, *namespaces: str) -> tuple[Reading[tuple[Alert, ...]], list[Seen]]:
    with answering(reply) as server:
        source = Alertmanager(Endpoint(f"{server.url}/alertmanager/"))
        try:
            return await source.alerts(Scope("test", namespaces)), server.seen
        finally:
            await source.close()


async def test_what_fires_and_nobody_silenced() -> None:
    read, seen = await alerts(Reply(body=ALERTS))
    [alert] = read.value
    assert (alert.name, alert.subject, alert.state, alert.text) == ("GPUThermalSlowdown", "n0", "active", "GPU 3 slows down")
    assert alert.since == datetime(2026, 1, 1, 0, 10, 0, 574000, tzinfo=UTC)
    assert (read.missing, read.cost.requests) == ((), 1)
    assert seen[0].path == "/alertmanager/api/v2/alerts"
    assert {key: values[0] for key, values in seen[0].query.items()} == {
        "active": "true",
        "silenced": "false",
        "inhibited": "false",
        "unprocessed": "false",
    }


async def test_only_the_namespaces_that_were_asked_about() -> None:
    assert len((await alerts(Reply(body=ALERTS), "ml"))[0].value) == 1
    assert (await alerts(Reply(body=ALERTS), "web"))[0].value == ()


@pytest.mark.parametrize(
    ("reply", "why", "said"),
    [
        (Reply(401, b"Unauthorized"), Why.UNAUTHENTICATED, "BEARER_TOKEN"),
        (Reply(200, b"<html>log in</html>"), Why.UNREACHABLE, "with a web page; Check that this is the address of an Alertmanager"),
        (Reply(200, b"[{"), Why.MALFORMED, "truncated"),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), Why.UNREACHABLE, "not followed"),
    ],
)
async def test_what_cannot_be_read_is_missing(reply: Reply, why: Why, said: str) -> None:
    read, seen = await alerts(reply)
    assert read.value == ()
    [gap] = read.missing
    assert gap.why is why
    assert said in f"{gap.detail}; {gap.next_step}"
    assert len(seen) == 1


async def test_more_alerts_than_anybody_reads() -> None:
    many = [{"labels": {"alertname": f"A{number}"}, "status": {"state": "active"}} for number in range(ALERTS_LIMIT + 1)]
    read, _ = await alerts(Reply(body=json.dumps(many).encode()))
    assert len(read.value) == ALERTS_LIMIT
    assert [gap.why for gap in read.missing] == [Why.TRUNCATED]


def test_an_alert_that_both_tell_of_is_one() -> None:
    evaluated = Alert("Hot", state="firing", labels=(("alertname", "Hot"), ("node", "n0")))
    elsewhere = Alert("Hot", state="firing", labels=(("alertname", "Hot"), ("node", "n1")))
    routed = Alert("Hot", "n0", "active", labels=(("alertname", "Hot"), ("cluster", "a"), ("node", "n0")), text="GPU 3 slows down")
    assert merged((evaluated, elsewhere), (routed,)) == (routed, elsewhere)
    assert merged((evaluated,), ()) == (evaluated,)


async def test_alerts_without_a_prometheus() -> None:
    with answering(Reply(body=ALERTS)) as server:
        source = Alertmanager(Endpoint(server.url))
        watching = Monitoring(alertmanager=source)
        read = await watching.telemetry(Scope("test"), NOW)
        metric = await watching.metric(MetricQuery("up"), Window(NOW, NOW))
        await source.close()
    assert [alert.name for alert in read.value.alerts] == ["GPUThermalSlowdown"]
    assert [gap.why for gap in metric.missing] == [Why.NO_SOURCE]


async def test_one_that_is_down_takes_nothing_from_the_other() -> None:
    with answering(Reply(body=ALERTS)) as server:
        source = Alertmanager(Endpoint(server.url))
        async with Source(Endpoint("http://127.0.0.1:1")) as down:
            read = await Monitoring(down, source).telemetry(Scope("test"), NOW)
        await source.close()
    assert [alert.name for alert in read.value.alerts] == ["GPUThermalSlowdown"]
    assert [gap.why for gap in read.missing] == [Why.UNREACHABLE]
