"""Puts the parts together: settings to readers, ports, tools and the gate. The only place that knows them all; it decides nothing."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.credentials import Impersonation
from cluster.errors import UnreachableClusterError
from cluster.facts.config import ConfigMap
from cluster.fleet import Fleet
from cluster.reading import Reader
from cluster.recorded import RecordedReader
from cluster.reference import Scope
from guardrails.clock import random_id
from oncall import telemetry
from oncall.settings import Settings

if TYPE_CHECKING:
    from agent.investigation import Conclusion
    from agent.planner import Planner
    from agent.remediation import Remediation
    from cluster.monitoring import Monitoring
    from runbooks.cost import Tariff

Progress = Callable[[str], Awaitable[None]]
INVESTIGATIONS = "investigations.db"
log = logging.getLogger("smokejumper")


def wall_clock() -> datetime:
    """This moment, in UTC: the one clock of a live cluster."""
    return datetime.now(UTC)


def tune_collector() -> None:
    """Keep the garbage collector from scanning what start-up leaves behind, and its passes short: nothing else runs meanwhile.

    A pass goes through the objects since the one before, which outnumber the first figure several times where old ones are freed: at
    50,000 passes of 64 clients' calls took up to 260 ms, at 10,000 up to 60 ms. What it goes through are the tuples of facts, which it
    lets be after one look, so more and smaller passes cost no more. Passes through everything, the longest, stay rare.
    """
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)


def fleet(settings: Settings) -> Fleet:
    """The clusters that the settings and the environment name."""
    return Fleet.find(os.environ, Path.home(), wall_clock, settings.kubeconfig)


def tariff(settings: Settings) -> Tariff:
    """What the settings say that devices cost, and whose namespaces are."""
    # Imported here: it brings the detectors along, which commands about proposals never use.
    from runbooks.cost import Tariff

    return Tariff(settings.prices.currency, settings.prices.per_device_hour, settings.estate.team)


@asynccontextmanager
async def monitoring(settings: Settings) -> AsyncIterator[Monitoring | None]:
    """What the settings say watches the cluster, None where they do not. Nobody is asked yet: what does not answer is missing later."""
    if settings.prometheus is None and settings.alertmanager is None and settings.loki is None:
        yield None
        return
    from cluster.alertmanager import Alertmanager
    from cluster.endpoint import Endpoint
    from cluster.loki import Loki
    from cluster.monitoring import Monitoring
    from cluster.prometheus import Prometheus

    asked = settings.monitoring
    token = asked.bearer_token.get_secret_value() if asked.bearer_token else None

    def endpoint(url: str) -> Endpoint:
        return Endpoint(url, token, asked.ca_file, asked.tenant, asked.timeout_seconds)

    async with AsyncExitStack() as opened:
        prometheus = alertmanager = loki = None
        if settings.prometheus is not None:
            prometheus = await opened.enter_async_context(Prometheus(endpoint(settings.prometheus)))
        if settings.alertmanager is not None:
            alertmanager = Alertmanager(endpoint(settings.alertmanager))
            opened.push_async_callback(alertmanager.close)
        if settings.loki is not None:
            loki = Loki(endpoint(settings.loki))
            opened.push_async_callback(loki.close)
        yield Monitoring(prometheus, alertmanager, loki)


@asynccontextmanager
async def open_reader(
    settings: Settings, recording: Path | None, now: datetime | None = None, impersonate: Impersonation | None = None
) -> AsyncIterator[Reader]:
    """The reader of a recording, or of the live cluster, which must answer: raises UnreachableClusterError before anything is diagnosed.

    With `impersonate` the cluster decides what that person may read; monitoring, which does not know them, is not asked then.
    """
    if recording is not None:
        async with monitoring(settings) as watching:
            # An Alertmanager has no past to ask about.
            prometheus, loki = (watching.prometheus, watching.loki) if watching else (None, None)
            async with RecordedReader.open(recording, now, prometheus, loki) as recorded:
                yield recorded
        return
    from cluster.kube import KubeReader

    unread = frozenset() if settings.read_configmaps else frozenset({ConfigMap.kind})
    connection = await fleet(settings).connect(settings.context, impersonate)
    async with AsyncExitStack() as opened:
        watching = await opened.enter_async_context(monitoring(settings)) if impersonate is None else None
        reader = KubeReader(connection, seconds=settings.request_timeout_seconds, unread=unread, monitoring=watching)
        live = await opened.enter_async_context(reader)
        version = await live.version()
        if version.missing:
            gap = version.missing[0]
            raise UnreachableClusterError(f"cannot read cluster {live.cluster}: {gap.why.value}, {gap.detail}. {gap.next_step}".strip())
        yield live


async def investigate(
    settings: Settings,
    reader: Reader,
    scope: Scope,
    question: str | None,
    progress: Progress | None = None,
    *,
    remediation: Remediation | None = None,
    incident_id: str | None = None,
    forget: bool = False,
) -> Conclusion:
    """One investigation with what the settings allow it to spend and, where one is configured, a model that chooses among probes.

    With `remediation` the best remedy is proposed, and the investigation is kept, so that it can go on by its `incident_id` when
    people have decided, also in another process. A process that goes on says `forget`, so that the facts do not stay.
    """
    # The agent brings all detectors, which a server that starts need not wait for, nor those who ask it for something else.
    await asyncio.to_thread(importlib.import_module, "agent.investigation")
    from agent.budget import Limits
    from agent.incident import Incident
    from agent.investigation import in_process, run
    from agent.remediation import Decision

    limits = Limits(probes=settings.budget.probes, seconds=settings.budget.seconds)
    incident = Incident(incident_id or random_id("inv"), scope, question)
    telemetry.bind(cluster=reader.cluster, incident=incident.id)
    log.info("investigation begins")
    async with planning(settings) as planner:
        concluded = await run(
            incident,
            reader,
            in_process(reader, limits),
            store=settings.state_dir / INVESTIGATIONS if remediation is not None else None,
            planner=planner,
            limits=limits,
            remediation=remediation,
            progress=progress,
            clock=time.monotonic,
            answer=Decision(verdict="look") if incident_id is not None else None,
            tariff=tariff(settings),
            forget=forget,
        )
    found, cost = len(concluded.diagnosis.causes), concluded.diagnosis.cost
    log.info("investigation ends: %d causes, %d requests, %d bytes, %.1f seconds", found, cost.requests, cost.bytes, concluded.seconds)
    return concluded


@asynccontextmanager
async def planning(settings: Settings) -> AsyncIterator[Planner]:
    """The rules; with a model configured, the model over the same wants, which falls back to the rules. Its connections end with it."""
    from agent.planner import RulePlanner

    if settings.model.name is None:
        yield RulePlanner()
        return
    from agent.llm_planner import ModelPlanner
    from agent.model import Model, ModelSettings, client_of

    endpoint = ModelSettings(
        model=settings.model.name,
        base_url=settings.model.base_url,
        api_key=settings.model.api_key,
        timeout_seconds=settings.model.timeout_seconds,
    )
    client = client_of(endpoint)
    try:
        yield ModelPlanner(Model(endpoint, client))
    finally:
        await client.close()
