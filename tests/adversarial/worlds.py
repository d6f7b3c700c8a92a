"""Reads an adversarial world: the first YAML document is its head, the others are objects as the API gives them.

    about: a sentence                     question, namespace (null for all), now
    hidden: [{kind, why}]                 kinds that could not be read, or not in full; every other kind was read completely
    logs: {file name: text}               as a recording names them
    expect:
      causes: [{object, class, at_most, optional}]   must all be there; `object` may be several that are equally right
      first: false                        their order is open; else the first of them ranks first
      others: [object]                    may be causes too; nothing else may
      innocent: [object]
      healthy, at_most, cannot_see, not_classes, said

An object with `repeat: N` stands for N of its kind with numbered names.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.kinds import CUSTOM_KINDS, KINDS
from cluster.manifest import MANIFEST_NAME, OBJECTS_NAMES
from tests.yamltext import documents

FOLDER = Path(__file__).parent / "worlds"
Object = dict[str, Any]


@dataclass(frozen=True)
class ExpectedCause:
    """`objects` are equally right answers; `optional` where saying nothing is right too."""

    objects: tuple[str, ...]
    class_: str | None = None
    at_most: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Expected:
    causes: tuple[ExpectedCause, ...] = ()
    first: bool = True
    others: tuple[str, ...] = ()
    innocent: tuple[str, ...] = ()
    healthy: bool = False
    at_most: str | None = None
    cannot_see: tuple[str, ...] = ()
    not_classes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adversary:
    name: str
    about: str
    now: str
    namespace: str | None
    question: str | None
    expect: Expected
    objects: tuple[Object, ...]
    hidden: tuple[dict[str, str], ...] = ()
    logs: dict[str, str] = field(default_factory=dict)

    def unpack(self, folder: Path, objects: tuple[Object, ...] | None = None) -> Path:
        """Write it as a recording into `folder`, which must not exist; with `objects`, those instead of its own."""
        folder.mkdir(parents=True)
        hidden = {one["kind"] for one in self.hidden}
        manifest = {
            "format": 1,
            "cluster": "test",
            "now": self.now,
            "kinds_read": [kind.name for kind in (*KINDS, *CUSTOM_KINDS) if kind.name not in hidden],
            "missing": [{"what": f"{one['kind']} objects", "why": one["why"], "kind": one["kind"]} for one in self.hidden],
        }
        listing = {"apiVersion": "v1", "kind": "List", "items": list(self.objects if objects is None else objects)}
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest), "utf-8")
        (folder / OBJECTS_NAMES[-1]).write_text(json.dumps(listing), "utf-8")
        for name, text in self.logs.items():
            (folder / "logs").mkdir(exist_ok=True)
            (folder / "logs" / name).write_text(text, "utf-8")
        return folder


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read(name: str) -> Adversary:
    head, *objects = documents(FOLDER / f"{name}.yaml")
    return Adversary(
        name=name,
        about=head["about"],
        now=head["now"],
        namespace=head["namespace"],
        question=head.get("question"),
        expect=_expected(head["expect"]),
        objects=tuple(one for written in objects for one in _repeated(written)),
        hidden=tuple(head.get("hidden", ())),
        logs=head.get("logs", {}),
    )


def _expected(document: dict[str, Any]) -> Expected:
    causes = tuple(
        ExpectedCause(
            objects=(one["object"],) if isinstance(one["object"], str) else tuple(one["object"]),
            class_=one.get("class"),
            at_most=one.get("at_most"),
            optional=one.get("optional", False),
        )
        for one in document.get("causes", ())
    )
    lists = {key: tuple(document.get(key, ())) for key in ("others", "innocent", "cannot_see", "not_classes", "said")}
    return Expected(causes, document.get("first", True), healthy=document.get("healthy", False), at_most=document.get("at_most"), **lists)


def _repeated(written: Object) -> list[Object]:
    if "repeat" not in written:
        return [written]
    copies = []
    for number in range(written["repeat"]):
        one = {key: value for key, value in written.items() if key != "repeat"}
        one["metadata"] = copy.copy(one["metadata"]) | {"name": f"{one['metadata']['name']}{number:05}"}
        copies.append(one)
    return copies
