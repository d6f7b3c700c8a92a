"""Every tool, in the order in which clients see them. A tuple, not a registry: what is not listed here does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.groups import GROUPS
from mcp_server.registry import Toolset, ToolSpec
from mcp_server.tools import (
    changes,
    claims,
    cost,
    devices,
    diagnoses,
    gpus,
    inference,
    nodes,
    overview,
    queues,
    records,
    remediation,
    scheduling,
    storage,
    training,
)
from mcp_server.tools.primitive import PRIMITIVE

ALL: tuple[ToolSpec, ...] = (
    *(*overview.TOOLS, *diagnoses.TOOLS, *scheduling.TOOLS, *changes.TOOLS, *nodes.TOOLS, *PRIMITIVE),
    *storage.TOOLS,
    *(*gpus.TOOLS, *devices.TOOLS, *claims.TOOLS, *cost.TOOLS),
    *inference.TOOLS,
    *queues.TOOLS,
    *training.TOOLS,
    *records.TOOLS,
    *remediation.TOOLS,
)


def toolset(groups: Iterable[str] | None = None) -> Toolset:
    """The tools of some groups; of all groups without any said."""
    chosen = GROUPS if groups is None else tuple(groups)
    return Toolset(ALL).only(lambda spec: {spec.group, spec.beside or spec.group} <= set(chosen))
