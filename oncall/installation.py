"""Whether Python runs our code under our names: this is an application, and its import names are common words."""

from __future__ import annotations

from importlib import metadata

ROOMS = ("guardrails", "cluster", "runbooks", "mcp_server", "agent", "oncall")
DISTRIBUTION = "smokejumper"


def foreign_rooms() -> dict[str, list[str]]:
    """Our import names that another distribution owns too, with its name: then Python may be running somebody else's code."""
    owners = metadata.packages_distributions()
    return {room: others for room in ROOMS if (others := sorted({o for o in owners.get(room, ()) if o != DISTRIBUTION}))}


def version() -> str:
    return metadata.version(DISTRIBUTION)
