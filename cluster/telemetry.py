"""What monitoring said, beside the objects: alerts, series, node services, reachability, who calls whom.

Sources agree on no layout, so this module reads by meaning: it takes the words that monitoring tools use for the same thing and
leaves out what it cannot place, saying how much that was. It judges nothing: a node service is `running` or not, an alert fires or
not, and what follows from it is for detectors. Where a source leaves a verdict open, the field is None, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from cluster.reading import Series
from cluster.timestamps import parse_time
from guardrails.redact import present

TEXT_LIMIT = 1_000
ENTRIES_LIMIT = 20_000
DEPTH_LIMIT = 8


class Alert(Struct, frozen=True):
    """One alert. `subject` is the thing it is about (a service, node or pod by name) where the source says so, else ""."""

    name: str
    subject: str = ""
    state: str = ""
    since: datetime | None = None
    labels: tuple[tuple[str, str], ...] = ()
    text: str = ""


class NodeService(Struct, frozen=True):
    """One daemon on one node (kubelet, containerd, …). `running` None: the source's words do not say."""

    node: str
    service: str
    running: bool | None
    text: str = ""


class Reachability(Struct, frozen=True):
    """One attempt to connect. `source` "" means somewhere inside the cluster."""

    source: str
    target: str
    port: int | None
    reachable: bool | None
    latency_seconds: float | None = None
    text: str = ""


class Dependency(Struct, frozen=True, order=True):
    """`caller` calls `callee`."""

    caller: str
    callee: str


class Telemetry(Struct, frozen=True):
    """Everything of one recording or source. `series` carry their metric's name as the label `__name__`, as in Prometheus."""

    alerts: tuple[Alert, ...] = ()
    series: tuple[Series, ...] = ()
    node_services: tuple[NodeService, ...] = ()
    connectivity: tuple[Reachability, ...] = ()
    dependencies: tuple[Dependency, ...] = ()


_NAME = ("alertname", "alert", "rule", "title", "name")
_SINCE = ("startsAt", "activeAt", "starts_at", "started_at", "since", "time_range", "timestamp", "time")
_TEXT = ("description", "summary", "message", "evidence", "output", "result", "detail", "details", "text", "error", "reason")
_SUBJECT = ("pod", "deployment", "statefulset", "daemonset", "service", "node", "instance", "container", "job")
_NODE = ("node", "node_name", "nodeName", "host")
_SERVICE = ("service", "service_name", "serviceName", "component", "component_name", "unit", "daemon")
_SOURCE = ("from", "source", "src", "caller", "client", "parent", "upstream_service")
_TARGET = ("to", "target", "dst", "destination", "callee", "child", "server", "service", "service_name", "host")
_VERDICT = ("ok", "success", "succeeded", "reachable", "connected", "running", "active", "healthy", "status", "state", "result", "output")
_NEGATIVE = re.compile(
    r"\b(in-?active|fail\w*|dead|stopped|exited|not[ -]\w+|no route|refused|refuse|timed? ?out|timeout|unreachable|denied|closed|down"
    r"|errors?|unhealthy|disconnected|false)\b",
    re.IGNORECASE,
)
_POSITIVE = re.compile(r"\b(active|running|succeeded|success\w*|open|connected|reachable|healthy|up|ok|true)\b", re.IGNORECASE)
_DOWNSTREAM = re.compile(r"downstream|calls|callees|depends|dependencies|children", re.IGNORECASE)
_UPSTREAM = re.compile(r"upstream|called.?by|callers|dependents|parents", re.IGNORECASE)
_TREE = re.compile(r"^(?P<lead>[\s│|]*)(?:[├└+`]\S*[─-]+\s*)(?P<name>[A-Za-z0-9][\w.-]*)")
_WORD = re.compile(r"[A-Za-z0-9][\w.-]*")


def read_alerts(document: Any) -> tuple[Alert, ...]:
    """Prometheus, Alertmanager and plain lists of alerts, bare or below `alerts` or `data`."""
    return tuple(_alert(item) for item in _entries(document, ("alerts", "data", "items", "results")) if isinstance(item, dict | str))


def read_node_services(document: Any) -> tuple[NodeService, ...]:
    """A list of entries, or a mapping of node to service to state, in words, booleans or `systemctl status` output."""
    found: list[NodeService] = []
    for path, item in _leaves(document, (*_NODE, *_SERVICE)):
        fields = item if isinstance(item, dict) else {}
        node = _first(fields, _NODE) or (path[0] if path else "")
        service = _first(fields, _SERVICE) or (path[1] if len(path) > 1 else "")
        if node and service:
            found.append(NodeService(node, service, verdict(_said(item)), _text(item)))
    return tuple(found)


def read_connectivity(document: Any) -> tuple[Reachability, ...]:
    """A list of attempts, or a mapping of target (or source to target) to what came of it."""
    found: list[Reachability] = []
    for path, item in _leaves(document, (*_SOURCE, *_TARGET)):
        fields = item if isinstance(item, dict) else {}
        source = _first(fields, _SOURCE) or (path[0] if len(path) > 1 else "")
        target, port = _address(_first(fields, _TARGET) or (path[-1] if path else ""))
        named_port = _number(fields.get("port"))
        if target:
            chosen = int(named_port) if named_port is not None else port
            found.append(Reachability(source, target, chosen, verdict(_said(item)), _latency(fields), _text(item)))
    return tuple(found)


def read_dependencies(document: Any) -> tuple[Dependency, ...]:
    """Pairs, a mapping of caller to callees (or to `upstream` and `downstream`), or the trees that tracing tools print."""
    edges: set[Dependency] = set()
    for name, item in _named_entries(document):
        if isinstance(item, str) and ("\n" in item or _DOWNSTREAM.search(item)):
            edges.update(_edges_of_text(name, item))
        elif isinstance(item, str):
            edges.update(Dependency(name, word) for word in (_WORD.findall(item) if name else ()))
        elif isinstance(item, list | tuple) and not name and len(item) == 2 and all(isinstance(part, str) for part in item):
            edges.add(Dependency(item[0], item[1]))
        elif isinstance(item, list | tuple):
            edges.update(Dependency(name, callee) for callee in _names(item) if name)
        elif isinstance(item, dict):
            edges.update(_edges_of_mapping(name, item))
    return tuple(sorted(edge for edge in edges if edge.caller and edge.callee and edge.caller != edge.callee))[:ENTRIES_LIMIT]


def verdict(said: Any) -> bool | None:
    """Whether words, a number or a boolean say that something works; None when they do not say. Negative words win."""
    if isinstance(said, bool):
        return said
    if isinstance(said, int | float):
        return None
    text = str(said)
    # `systemctl status` says it in one place, and a healthy service's log may speak of errors further down.
    active = re.search(r"Active:\s*(\w+)", text)
    if active:
        return active[1].lower() in {"active", "activating", "reloading"}
    if _NEGATIVE.search(text):
        return False
    return True if _POSITIVE.search(text) else None


def _alert(item: dict[str, Any] | str) -> Alert:
    if isinstance(item, str):
        return Alert(present(item.partition("\n")[0], 200), text=present(item, TEXT_LIMIT))
    labels = {str(key): str(value) for key, value in _mapping(item.get("labels")).items() if _scalar(value)}
    notes = _mapping(item.get("annotations"))
    name = _first(labels, _NAME) or _first(item, _NAME)
    about = str(item.get("type") or item.get("kind") or "").lower()
    subject = _first(labels, _SUBJECT) or _first(item, _SUBJECT) or (name if about in _SUBJECT else "")
    labels |= {str(k): str(v) for k, v in item.items() if _scalar(v) and k not in {*_NAME, *_SINCE, *_TEXT, "status", "state"}}
    status = item.get("state") or item.get("status") or ""
    state = str(_mapping(status).get("state", "")) if isinstance(status, dict) else str(status)
    since = next((moment for key in _SINCE if (moment := parse_time(item.get(key))) is not None), None)
    text = _text(notes) or _text(item)
    return Alert(present(name or "alert", 200), present(subject, 200), state, since, tuple(sorted(labels.items())), text)


def _entries(document: Any, wrappers: tuple[str, ...]) -> list[Any]:
    """The list inside a document, however it is wrapped; a mapping of names to entries becomes entries with that name."""
    document = _decoded(document)
    for _ in range(DEPTH_LIMIT):
        if isinstance(document, list):
            return document[:ENTRIES_LIMIT]
        if not isinstance(document, dict):
            return []
        inner = next((document[key] for key in wrappers if isinstance(document.get(key), list | dict)), None)
        if inner is None:
            return [{"name": key, **value} for key, value in document.items() if isinstance(value, dict)][:ENTRIES_LIMIT]
        document = inner
    return []


def _leaves(document: Any, naming: tuple[str, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, entry): entries are values, or mappings that name themselves or carry a verdict."""
    document = _decoded(document)
    if len(path) >= DEPTH_LIMIT:
        return
    if isinstance(document, list):
        for item in document[:ENTRIES_LIMIT]:
            yield from _leaves(item, naming, path)
    elif isinstance(document, dict) and not _is_entry(document, naming):
        for key, value in list(document.items())[:ENTRIES_LIMIT]:
            arguments = _call_arguments(str(key))
            if arguments is not None:
                yield path, {**arguments, "result": value}
            else:
                yield from _leaves(value, naming, path if _is_wrapper(key, value) else (*path, str(key)))
    elif document is not None and not isinstance(document, str | int | float | bool | dict):
        return
    elif document is not None:
        yield path, document


def _is_entry(document: dict[str, Any], naming: tuple[str, ...]) -> bool:
    """A mapping that names its subject in a field, or says a verdict about the path that leads to it."""
    return any(_scalar(document.get(key)) for key in naming) or any(_scalar(document.get(key)) for key in _VERDICT if key in document)


def _is_wrapper(key: Any, value: Any) -> bool:
    wrappers = {"items", "data", "results", "checks", "nodes", "services", "connectivity", "node_services", "tests"}
    return str(key).lower() in wrappers and isinstance(value, dict | list)


def _call_arguments(key: str) -> dict[str, Any] | None:
    """The arguments in a key such as `Check:{"service": "a", "port": 80}`, as caches of tool calls have them."""
    _, brace, rest = key.partition("{")
    if not brace:
        return None
    try:
        arguments = json.loads("{" + rest)
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _named_entries(document: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    document = _decoded(document)
    if isinstance(document, dict):
        wrapped = next((document[k] for k in ("dependencies", "edges", "links", "data") if isinstance(document.get(k), list | dict)), None)
        if wrapped is not None and depth < DEPTH_LIMIT and not name:
            yield from _named_entries(wrapped, "", depth + 1)
        elif _first(document, _SOURCE) and _first(document, _TARGET):
            yield "", document
        else:
            for key, value in list(document.items())[:ENTRIES_LIMIT]:
                arguments = _call_arguments(str(key))
                yield (str(next(iter(arguments.values()), "")) if arguments else str(key)), _decoded(value)
    elif isinstance(document, list):
        for item in document[:ENTRIES_LIMIT]:
            yield "", item


def _edges_of_mapping(name: str, item: dict[str, Any]) -> Iterator[Dependency]:
    source, target = _first(item, _SOURCE), _first(item, _TARGET)
    if source and target and not name:
        yield Dependency(source, target)
        return
    name = name or _first(item, ("service", "name", "service_name"))
    for key, value in item.items():
        if _UPSTREAM.search(str(key)):
            yield from (Dependency(other, name) for other in _names(value))
        elif _DOWNSTREAM.search(str(key)):
            yield from (Dependency(name, other) for other in _names(value))


def _edges_of_text(name: str, text: str) -> Iterator[Dependency]:
    """Edges of a printed tree: a child is one level deeper than its caller. A "called by" line names callers."""
    stack: list[tuple[int, str]] = [(-1, name)] if name else []
    for line in text.splitlines():
        heading, colon, rest = line.partition(":")
        if colon and _UPSTREAM.search(heading):
            plain = re.sub(r"\([^)]*\)", "", rest)
            yield from (Dependency(caller, name) for caller in _WORD.findall(plain) if name)
            continue
        match = _TREE.match(line)
        if match is None:
            continue
        level = len(match["lead"])
        while stack and stack[-1][0] >= level:
            stack.pop()
        if stack:
            yield Dependency(stack[-1][1], match["name"])
        stack.append((level, match["name"]))


def _names(value: Any) -> Iterator[str]:
    value = _decoded(value)
    if isinstance(value, str):
        yield from _WORD.findall(value)
    elif isinstance(value, dict):
        yield from (str(key) for key in value)
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, str):
                yield item
            elif isinstance(item, dict):
                yield _first(item, ("service", "name", "service_name", *_TARGET))


def _said(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return next((item[key] for key in _VERDICT if key in item and _scalar(item[key])), _text(item))


def _text(item: Any) -> str:
    if not isinstance(item, dict):
        return present(str(item), TEXT_LIMIT)
    parts = []
    for key in _TEXT:
        value = item.get(key)
        if isinstance(value, list):
            parts += [str(part) for part in value if _scalar(part)]
        elif value is not None and _scalar(value):
            parts.append(str(value))
    return present("; ".join(parts), TEXT_LIMIT)


def _latency(fields: Mapping[str, Any]) -> float | None:
    for key, value in fields.items():
        lowered = str(key).lower()
        number = _number(value)
        if number is not None and re.search(r"latency|rtt|duration|elapsed", lowered):
            return number / 1000 if re.search(r"(_|^)ms$|millis", lowered) or (isinstance(value, str) and "ms" in value) else number
    return None


def _address(text: str) -> tuple[str, int | None]:
    """`ns/web:80`, `http://web:80/x`, `web` as (name, port)."""
    bare = re.sub(r"^\w+://", "", text).split("/" if "://" in text else "\0")[0]
    host, colon, port = bare.rpartition(":")
    return (host, int(port)) if colon and port.isdigit() else (bare, None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    match = re.match(r"^\s*(-?\d+(?:\.\d+)?)\s*(?:ms|s|sec)?\s*$", str(value))
    return float(match[1]) if match else None


def _decoded(value: Any) -> Any:
    """JSON inside a string is unwrapped once; everything else is returned as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _first(fields: Mapping[str, Any], keys: Iterable[str]) -> str:
    return next((str(fields[key]) for key in keys if isinstance(fields.get(key), str) and fields[key]), "")
