"""Which tools are of use to a deployment: those whose custom kinds the cluster serves and whose sources are configured.

It asks once, when a server starts, as the server's own account: what is listed is the same for every connection.
"""

from __future__ import annotations

from datetime import timedelta

from cluster.kinds import BY_NAME
from cluster.reading import MetricQuery, Missing, Reader, Why
from cluster.reference import Scope, Window
from mcp_server.probe import together
from mcp_server.registry import Toolset

# Why nothing of a kind, or of a source, can ever be read here; being refused is another matter, and may be so for this account alone.
_ABSENT = frozenset({Why.ABSENT_KIND, Why.NO_SOURCE})
_NOWHERE = "default"


async def offered(tools: Toolset, reader: Reader) -> Toolset:
    """The tools that can say anything of this cluster; the rest are hidden."""
    named = sorted({kind for spec in tools for kind in spec.kinds})
    served = dict(zip(named, await together(_served(reader, kind) for kind in named), strict=True))
    wanted = {spec.source for spec in tools}
    metrics = "metrics" in wanted and await _has_metrics(reader)
    sources = {None: True, "metrics": metrics, "telemetry": metrics or ("telemetry" in wanted and await _has_telemetry(reader))}
    return tools.only(lambda spec: sources[spec.source] and (not spec.kinds or any(served[kind] for kind in spec.kinds)))


async def _served(reader: Reader, name: str) -> bool:
    """Whether objects of a kind can be there. One that does not exist is asked for, because listing all could take long."""
    kind = BY_NAME[name]
    reading = await reader.objects(kind, Scope(reader.cluster, (_NOWHERE,) if kind.namespaced else ()), "smokejumper")
    return _there(reading.missing)


async def _has_metrics(reader: Reader) -> bool:
    end = reader.now()
    return _there((await reader.metric(MetricQuery("up"), Window(end - timedelta(minutes=1), end))).missing)


async def _has_telemetry(reader: Reader) -> bool:
    return _there((await reader.telemetry(Scope(reader.cluster, (_NOWHERE,)))).missing)


def _there(missing: tuple[Missing, ...]) -> bool:
    return not any(item.why in _ABSENT for item in missing)
