"""Whether what a diagnosis cites can be found again where the citation says."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cluster.kinds import BY_NAME
from tests.lab.api import ApiClient, ApiError

REDACTED = "REDACTED"


def not_found_again(reader: ApiClient, cause: Mapping[str, Any], measured: Collection[str] = ()) -> list[str]:
    """What a cause cites and the cluster does not show. `measured` are the names of the metrics that were written for it."""
    return [
        f"{item['source']} {item['object']} {item['path']}: {item['quote']}"
        for item in cause["evidence"]
        if not _shown(reader, item, measured)
    ]


def _shown(reader: ApiClient, item: Mapping[str, Any], measured: Collection[str]) -> bool:
    named = item["object"]
    kind, space, name = named["kind"], named["namespace"], named["name"]
    # What redaction took out cannot be found again, nor what was cut.
    words = item["quote"].split(" (seen ")[0].split(REDACTED)[0].removesuffix("…")
    if item["source"] == "event":
        events = reader.list("v1", "Event", space)
        return any(words in one["message"] for one in events if one["involvedObject"]["name"] == name)
    if item["source"] == "metric" and measured:
        # What a measurement is called is a metric's name, or begins with it where it is made of several.
        called = item["path"].split()[0]
        return any(called in metric or called.startswith(metric) for metric in measured)
    found = reader.get(BY_NAME[kind].api_version, kind, name, space) if kind in BY_NAME else None
    if item["source"] == "absence":
        return found is None or bool(item["path"])
    if found is None or item["source"] != "log":
        return found is not None
    containers = [*found["spec"].get("initContainers", ()), *found["spec"]["containers"]]
    return any(words in log for one in containers for log in _logs(reader, space, name, one["name"]))


def _logs(reader: ApiClient, space: str, pod: str, container: str) -> Iterator[str]:
    for previous in (False, True):
        try:
            yield reader.log(space, pod, container, previous=previous)
        except ApiError as error:
            if error.status not in (400, 404):
                raise
