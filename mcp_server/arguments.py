"""Arguments that tools share, and how a wrong one is answered: with what was wrong and the nearest valid values."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cluster.kinds import ALIASES, BY_NAME
from guardrails.redact import present
from mcp_server.errors import ToolRefusal

A = TypeVar("A", bound=BaseModel)

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAME_LIMIT = 253
NAMES_SHOWN = 5
WORD_LIMIT = 300
DEFAULT_ROWS = 20
MAXIMUM_ROWS = 200


class Arguments(BaseModel):
    """What all arguments share: nothing unknown, nothing changed later."""

    # Built when a tool is first called or listed: most commands do neither with most tools.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _several(value: Any) -> Any:
    """One name, a list of names, or a list that a client sent as a JSON string."""
    if value is None:
        return ()
    if isinstance(value, str):
        if value.startswith("["):
            try:
                return tuple(json.loads(value))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{present(value, 60)!r} is no JSON list") from error
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _namespaces(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        _namespace(value)
    return tuple(dict.fromkeys(values))


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise ValueError(f"{present(value, 60)!r} is no namespace name (lower-case letters, digits and '-', at most 63)")
    return value


def _name(value: str) -> str:
    # What the API server itself refuses in a path segment (apimachinery, validation/path.IsValidPathSegmentName).
    if not value or len(value) > NAME_LIMIT or value in (".", "..") or "/" in value or "%" in value or not value.isprintable():
        raise ValueError(f"{present(value, 60)!r} is no object name; give the bare name, without its kind")
    return value


Namespaces = Annotated[
    tuple[str, ...],
    BeforeValidator(_several, json_schema_input_type=str | None),
    AfterValidator(_namespaces),
    Field(description="one, or a,b; default all"),
]
Namespace = Annotated[str, AfterValidator(_namespace)]
Name = Annotated[str, AfterValidator(_name)]
Limit = Annotated[int, Field(ge=1, le=MAXIMUM_ROWS)]
Cursor = Annotated[str | None, Field(max_length=2_000)]


class ListArguments(Arguments):
    """Arguments of a tool that lists."""

    namespace: Namespaces = ()
    limit: Limit = DEFAULT_ROWS
    cursor: Cursor = None


def validated(model: type[A], name: str, arguments: dict[str, Any]) -> A:
    """The arguments as their model. Raises ToolRefusal that names every wrong one and the nearest valid."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        problems = "; ".join(_problem(model, problem) for problem in error.errors(include_url=False)[:5])
        raise ToolRefusal(f"{name}: {problems}") from error


def _problem(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if isinstance(part, str | int))
    # A key of an object that was given may be anything, and as long as the request.
    shown = present(where, 60)
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown argument {shown!r}; {nearest(where, model.model_fields, 'arguments')}"
        case "missing":
            return f"argument {shown!r} is required"
        case _:
            return f"argument {shown!r}: {present(str(problem['msg']).removeprefix('Value error, '), 300)}"


def nearest(word: str, known: Iterable[str], what: str) -> str:
    """The values most like `word`, best first; where none is alike, the first few of all."""
    names = sorted(set(known))
    # Comparing takes time with the word's length, and no name is longer.
    word = word[:WORD_LIMIT]
    alike = difflib.get_close_matches(word, names, NAMES_SHOWN, cutoff=0.5)
    alike += [name for name in names if word and word in name and name not in alike]
    if alike:
        return f"nearest {what}: {', '.join(alike[:NAMES_SHOWN])}"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{what}: {', '.join(names[:NAMES_SHOWN])}{more}" if names else f"there are no {what}"


def nearest_kinds(word: str) -> str:
    """The kinds most like a word that names none."""
    known = {name.lower(): name for name in BY_NAME} | {kind.plural: kind.name for kind in BY_NAME.values()} | ALIASES
    alike = dict.fromkeys(known[item] for item in difflib.get_close_matches(word.lower(), known, NAMES_SHOWN, cutoff=0.5))
    return f"nearest kinds: {', '.join(alike)}" if alike else "Pod, Deployment, Node, Service, ConfigMap and others can be read"
