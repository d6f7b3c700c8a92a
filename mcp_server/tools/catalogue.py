"""Every tool, in the order in which clients see them. A tuple, not a registry: what is not listed here does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.groups import GROUPS
from mcp_server.registry import Toolset, ToolSpec
from mcp_server.tools import diagnoses, events, gpus, logs, metrics, overview, pods, remediation, resources, scheduling, telemetry

PRIMITIVE: tuple[ToolSpec, ...] = (*pods.TOOLS, *events.TOOLS, *logs.TOOLS, *resources.TOOLS, *telemetry.TOOLS, *metrics.TOOLS)
ALL: tuple[ToolSpec, ...] = (*overview.TOOLS, *diagnoses.TOOLS, *scheduling.TOOLS, *gpus.TOOLS, *PRIMITIVE, *remediation.TOOLS)


def toolset(groups: Iterable[str] | None = None) -> Toolset:
    """The tools of some groups; of all groups without any said."""
    chosen = GROUPS if groups is None else tuple(groups)
    return Toolset(ALL).only(lambda spec: spec.group in chosen)
