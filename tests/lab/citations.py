"""Whether what a diagnosis cites can be found again where the citation says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cluster.kinds import BY_NAME
from cluster.presets import PRESETS
from tests.lab.api import ApiClient, ApiError, Object

REDACTED = "REDACTED"
# What an API server appends to a `generateName` (rand.String of k8s.io/apimachinery). A controller that tries again and again rewrites its
# event with the name of the last pod that it could not make.
DRAWN = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b")


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
        wanted = DRAWN.sub("-", words)
        return any(wanted in DRAWN.sub("-", one["message"]) for one in events if one["involvedObject"]["name"] == name)
    if item["source"] == "metric" and measured:
        # What a measurement is called is a metric's name, or begins with it; one that is made of several says of which.
        called = item["path"].split()[0]
        made_of = {name for preset in PRESETS for form in preset.forms if form.called == called for name in form.names}
        return bool(made_of & set(measured)) or any(called in metric or called.startswith(metric) for metric in measured)
    found = _found(reader, kind, name, space)
    if item["source"] == "absence":
        return found is None or bool(item["path"])
    if found is None or item["source"] != "log":
        return found is not None
    containers = [*found["spec"].get("initContainers", ()), *found["spec"]["containers"]]
    return any(words in log for one in containers for log in _logs(reader, space, name, one["name"]))


def _found(reader: ApiClient, kind: str, name: str, space: str | None) -> Object | None:
    """The object, in whichever of its kind's groups it is."""
    known = BY_NAME.get(kind)
    for group in (known.group, *known.also) if known is not None else ():
        try:
            versions = [f"{group}/{item['version']}" for item in reader.json("GET", f"/apis/{group}")["versions"]] if group else ["v1"]
            for version in versions:
                found = reader.get(version, kind, name, space)
                if found is not None:
                    return found
        except ApiError as error:
            # A group that this cluster does not have, or a version of it without this kind.
            if error.status != 404:
                raise
    return None


def _logs(reader: ApiClient, space: str, pod: str, container: str) -> Iterator[str]:
    for previous in (False, True):
        try:
            yield reader.log(space, pod, container, previous=previous)
        except ApiError as error:
            if error.status not in (400, 404):
                raise
