"""The tools that only read: what an investigation probes with, and what the other tools are made of.

Apart from the catalogue of all tools, because a diagnosis on the command line would wait for the import of tools that it never calls.
"""

from __future__ import annotations

from mcp_server.registry import ToolSpec
from mcp_server.tools import events, logs, metrics, pods, resources, telemetry

PRIMITIVE: tuple[ToolSpec, ...] = (*pods.TOOLS, *events.TOOLS, *logs.TOOLS, *resources.TOOLS, *telemetry.TOOLS, *metrics.TOOLS)
