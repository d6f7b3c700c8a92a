"""Whether a diagnosis says of a scenario what it has to say. The same question of a live lab and of a recording."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tests.lab.scenario import Expectation

Document = Mapping[str, Any]


def complaints(document: Document, expect: Expectation) -> list[str]:
    """What is wrong with the diagnosis (the JSON form of runbooks.document) of a scene; empty when it is right."""
    return list(_complaints(document, expect))


def not_healthy(document: Document) -> list[str]:
    """The causes of a diagnosis that should have none, and why it is not called healthy."""
    found = [_told(cause) for cause in document["causes"]]
    if not found and not document["healthy"]:
        found.append(f"not healthy without a cause; cannot see {document['cannot_see']}")
    return found


def _complaints(document: Document, expect: Expectation) -> Iterator[str]:
    if expect.cause is None:
        yield from not_healthy(document)
        return
    causes = document["causes"]
    if not causes:
        yield f"no cause; not proven: {[(item['code'], item['object']) for item in document['not_proven']]}"
        return
    # Which of several faults that have nothing to do with each other comes first is nobody's business.
    named = [cause for cause in causes[: 1 + len(expect.also)] if _is_wanted(cause, expect)]
    first = (named or causes)[0]
    if not named:
        yield f"the first cause is {_told(first)}, not {expect.cause_class} of {dict(expect.cause)}"
    said = json.dumps(first, ensure_ascii=False).replace('\\"', '"')
    for words in expect.evidence:
        if words not in said:
            yield f"{words!r} is not in the evidence: {_told(first)}: {[item['quote'] for item in first['evidence']]}"
    for wanted in expect.also:
        if not any(_same(cause["object"], wanted) and cause["class"] == wanted["class"] for cause in causes):
            yield f"the second cause {dict(wanted)} is missing"
    for cause in causes:
        if cause is not first and not any(_same(cause["object"], one) for one in expect.also):
            yield f"one cause too many: {_told(cause)}"
    for cause in causes:
        if any(_spelled(cause["object"]) == innocent for innocent in expect.innocent):
            yield f"accused though innocent: {_told(cause)}"


def _is_wanted(cause: Document, expect: Expectation) -> bool:
    wanted = (expect.cause, *expect.accept)
    return cause["class"] == expect.cause_class and any(_same(cause["object"], one) for one in wanted if one is not None)


def _same(named: Mapping[str, str | None], pattern: Mapping[str, str | None]) -> bool:
    return all(fnmatchcase(named[part] or "", pattern.get(part) or "") for part in ("kind", "namespace", "name"))


def _spelled(named: Mapping[str, str | None]) -> str:
    return f"{named['kind']}/{named['namespace'] or '-'}/{named['name']}"


def _told(cause: Document) -> str:
    return f"{cause['class']} of {_spelled(cause['object'])} ({cause['code']}, {cause['certainty']}): {cause['explanation']}"
