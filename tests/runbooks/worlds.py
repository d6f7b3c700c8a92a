"""Small worlds from YAML, for detector tests: each reads like `kubectl get -o yaml` with everything beside the point left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from cluster.facts.meta import Fact
from cluster.kinds import BY_NAME
from cluster.reading import LogText, Reading
from cluster.reference import ContainerRef, Scope
from cluster.world import World
from runbooks.finding import Finding
from tests.yamltext import documents

# (namespace, pod, container), and whether of the run before the present one.
LogKey = tuple[str, str, str] | tuple[str, str, str, bool]
NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def world(
    text: str,
    *,
    now: datetime = NOW,
    logs: Mapping[LogKey, str] | None = None,
    complete: tuple[str, ...] = (),
) -> World:
    """A world of the YAML documents in `text`. `logs` maps (namespace, pod, container[, previous]) to text; `complete` names kinds
    beyond those present whose absence is to be proof (every kind that appears counts as completely read)."""
    grouped: dict[str, list[Fact]] = {}
    for document in documents(text):
        kind = BY_NAME[document["kind"]]
        grouped.setdefault(kind.name, []).append(msgspec.convert(document, kind.fact, strict=False))
    made = World("test", now, Scope("test"))
    for name in (*grouped, *complete):
        made = made.with_facts(name, grouped.get(name, ()), complete=True)
    for key, content in (logs or {}).items():
        container = ContainerRef(key[0], key[1], key[2])
        previous = len(key) == 4 and bool(key[3])
        made = made.with_log(container, previous=previous, log=Reading(LogText(tuple(content.strip().splitlines()))))
    return made


def codes(findings: Iterable[Finding]) -> set[str]:
    """The codes of some findings."""
    return {finding.code for finding in findings}


def told(code: str, findings: Iterable[Finding]) -> list[str]:
    """Of whom the findings say this code; one that shows or explains nothing says so beside its subject."""
    said = (finding for finding in findings if finding.code == code)
    return [f"{one.subject}{'' if one.evidence and one.explanation else ' of thin air'}" for one in said]
