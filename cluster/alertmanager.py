"""Alerts that Alertmanager holds now: what every Prometheus of a cluster, Loki and others sent it, with the words of their authors.

Silenced and inhibited alerts are left out: somebody has judged them already. It asks one question of one endpoint and changes nothing,
no silence either. It has no past, so nobody asks it about a recording.
"""

from __future__ import annotations

import msgspec

from cluster.endpoint import DETAIL_LIMIT, Endpoint, EndpointClient
from cluster.reading import Missing, Reading, Why
from cluster.reference import Scope
from cluster.telemetry import Alert, read_alerts
from guardrails.redact import present

ALERTS_LIMIT = 2_000
WHAT = "alerts of Alertmanager"


class Alertmanager:
    """Active alerts over one endpoint; `close` when done. Raises MonitoringError for an endpoint that cannot be used."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = EndpointClient(endpoint, "Alertmanager")

    async def close(self) -> None:
        await self._client.close()

    async def alerts(self, scope: Scope) -> Reading[tuple[Alert, ...]]:
        """What fires now, of the scope's namespaces or of none (https://github.com/prometheus/alertmanager, api/v2/openapi.yaml)."""
        parameters = {"active": "true", "silenced": "false", "inhibited": "false", "unprocessed": "false"}
        answer = await self._client.get("api/v2/alerts", parameters)
        if answer.why is not None:
            return Reading((), (answer.missing(WHAT),), answer.cost)
        if not answer.body.lstrip().startswith(b"["):
            return Reading((), (self._client.unexpected(answer).missing(WHAT),), answer.cost)
        try:
            document = msgspec.json.decode(answer.body)
        except msgspec.MsgspecError as error:
            return Reading((), (Missing(WHAT, Why.MALFORMED, present(str(error), DETAIL_LIMIT)),), answer.cost)
        found = tuple(item for item in read_alerts(document) if scope.includes(dict(item.labels).get("namespace")))
        gaps: tuple[Missing, ...] = ()
        if len(found) > ALERTS_LIMIT:
            detail = f"{len(found)} fire; the first {ALERTS_LIMIT} were read"
            gaps = (Missing(f"all {WHAT}", Why.TRUNCATED, detail, "Ask about one namespace."),)
        return Reading(found[:ALERTS_LIMIT], gaps, answer.cost)
