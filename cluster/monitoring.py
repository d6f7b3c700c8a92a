"""What watches a live cluster: its Prometheus, its Alertmanager, its Loki, or some of them. It reads through them and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import anyio
from msgspec import structs

from cluster.alertmanager import Alertmanager
from cluster.loki import Loki
from cluster.prometheus import Prometheus
from cluster.reading import MetricQuery, Missing, Reading, Series, Why
from cluster.reference import Scope, Window
from cluster.telemetry import Alert, Telemetry

NEXT_STEP = "Configure a Prometheus for this cluster (--prometheus URL)."


@dataclass(frozen=True)
class Monitoring:
    """Some of them may be None. Whoever made them closes them."""

    prometheus: Prometheus | None = None
    alertmanager: Alertmanager | None = None
    loki: Loki | None = None

    async def metric(self, query: MetricQuery, window: Window) -> Reading[tuple[Series, ...]]:
        """As `Prometheus.metric`; without one, that is missing."""
        if self.prometheus is None:
            what = f"metric {query.name or query.expression}"
            return Reading((), (Missing(what, Why.NO_SOURCE, "no metric source is configured", NEXT_STEP),))
        return await self.prometheus.metric(query, window)

    async def telemetry(self, scope: Scope, now: datetime) -> Reading[Telemetry]:
        """The measurements before `now` and the alerts of both sources; what neither can say is missing."""
        measured: Reading[Telemetry] = Reading(Telemetry())
        alerts: Reading[tuple[Alert, ...]] = Reading(())

        async def measure(prometheus: Prometheus) -> None:
            nonlocal measured
            measured = await prometheus.telemetry(scope, now)

        async def listen(alertmanager: Alertmanager) -> None:
            nonlocal alerts
            alerts = await alertmanager.alerts(scope)

        # At once: each may take nearly all the time that a probe has.
        async with anyio.create_task_group() as group:
            if self.prometheus is not None:
                group.start_soon(measure, self.prometheus)
            if self.alertmanager is not None:
                group.start_soon(listen, self.alertmanager)
        both = structs.replace(measured.value, alerts=merged(measured.value.alerts, alerts.value))
        return Reading(both, (*measured.missing, *alerts.missing), measured.cost + alerts.cost)


def merged(evaluated: tuple[Alert, ...], routed: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """The alerts of Alertmanager, and those of Prometheus that did not reach it.

    Both tell of one alert, Alertmanager with its annotations and with the external labels that Prometheus adds on the way.
    """
    told = [(alert.name, set(alert.labels)) for alert in routed]
    rest = (alert for alert in evaluated if not any(alert.name == name and set(alert.labels) <= labels for name, labels in told))
    return (*routed, *rest)
