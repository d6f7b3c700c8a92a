"""Stack traces in logs: the exception that began it all, of Java, Python, Go, Node, .NET and Rust.

Runtimes nest differently: Java and .NET print the innermost cause last (`Caused by:`, `--->`), Python prints it first. Frames are not
kept; the exception's own line is what a person acts on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct


class Trace(Struct, frozen=True):
    """One failure of a program: its runtime, the exception's type, its message, how many lines came after it."""

    runtime: str
    exception: str
    message: str
    from_end: int

    @property
    def text(self) -> str:
        return f"{self.exception}: {self.message}" if self.message else self.exception


_NAME = r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*"
_JAVA_FRAME = re.compile(r"^\s+at [\w.$/<>]+\(.*\)|^\\tat |^\s*\.\.\. \d+ (?:more|common frames)")
_JAVA_HEAD = re.compile(
    rf"(?:Exception in thread \\?\"[^\"]*\\?\" )?(?P<type>{_NAME}(?:Exception|Error|Throwable)\w*)(?::\s*(?P<message>.*))?$"
)
_JAVA_CAUSE = re.compile(rf"^\s*Caused by: (?P<type>{_NAME})(?::\s*(?P<message>.*))?$")
_PYTHON_HEAD = re.compile(r"Traceback \(most recent call last\):")
_PYTHON_END = re.compile(rf"^(?P<type>{_NAME})(?::\s*(?P<message>.*))?$")
_PYTHON_LINK = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")
_GO_PANIC = re.compile(r"^(?:panic|fatal error): (?P<message>.*)$")
_NODE_HEAD = re.compile(rf"^(?:Uncaught )?(?P<type>{_NAME}Error|Error)(?: \[[A-Z_]+\])?: (?P<message>.*)$")
_NODE_FRAME = re.compile(r"^\s+at (?:async )?[^(]*\(?(?:file://|node:|/|[A-Za-z]:\\)[^)]*:\d+(?::\d+)?\)?$")
_NODE_MODULE = re.compile(r"^Error: Cannot find module '(?P<message>[^']+)'")
_DOTNET_HEAD = re.compile(rf"Unhandled exception[.:]\s+(?P<type>{_NAME}): (?P<message>.*)$", re.I)
_DOTNET_CAUSE = re.compile(rf"--->\s+(?P<type>{_NAME}): (?P<message>.*?)(?:\s+--->|$)")
_RUST_PANIC = re.compile(r"^thread '[^']*' panicked at (?P<message>.*)$")


def innermost(lines: Sequence[str]) -> Trace | None:
    """The innermost exception of the last trace in some lines; None when there is none."""
    text = "\n".join(lines)
    found = [trace for marks, reader in _READERS if any(mark in text for mark in marks) and (trace := reader(lines)) is not None]
    return min(found, key=lambda trace: trace.from_end) if found else None


def _trace(runtime: str, kind: str, message: str | None, index: int, lines: Sequence[str]) -> Trace:
    return Trace(runtime, kind, (message or "").strip(), len(lines) - 1 - index)


def _python(lines: Sequence[str]) -> Trace | None:
    chain: Trace | None = None
    inside, linked = False, False
    for index, line in enumerate(lines):
        if _PYTHON_HEAD.search(line):
            inside = True
        elif inside and not line[:1].isspace():
            inside = False
            ended = _PYTHON_END.match(line)
            # The first of a chain is what began it; a new trace that is not linked to the last begins a chain of its own.
            if ended is not None and not (linked and chain is not None):
                chain = _trace("python", ended["type"], ended["message"], index, lines)
            linked = False
        if _PYTHON_LINK.match(line):
            linked = True
    return chain


def _java(lines: Sequence[str]) -> Trace | None:
    found: Trace | None = None
    for index, line in enumerate(lines):
        if _JAVA_FRAME.match(line):
            continue
        cause = _JAVA_CAUSE.match(line)
        if cause is not None:
            found = _trace("java", cause["type"], cause["message"], index, lines)
            continue
        framed = index + 1 < len(lines) and _JAVA_FRAME.match(lines[index + 1]) is not None
        head = _JAVA_HEAD.search(line) if framed or "Exception in thread" in line else None
        if head is not None:
            found = _trace("java", head["type"], head["message"], index, lines)
    return found


def _node(lines: Sequence[str]) -> Trace | None:
    found: Trace | None = None
    for index, line in enumerate(lines):
        head = _NODE_HEAD.match(line)
        if head is None:
            continue
        framed = any(_NODE_FRAME.match(other) for other in lines[index + 1 : index + 6])
        if framed or _NODE_MODULE.match(line):
            found = _trace("node", head["type"], head["message"], index, lines)
    return found


def _go(lines: Sequence[str]) -> Trace | None:
    found: Trace | None = None
    for index, line in enumerate(lines):
        panic = _GO_PANIC.match(line)
        if panic is not None and any(other.startswith(("goroutine ", "[signal ")) for other in lines[index + 1 : index + 6]):
            found = _trace("go", "panic", panic["message"], index, lines)
    return found


def _dotnet(lines: Sequence[str]) -> Trace | None:
    found: Trace | None = None
    open_head = False
    for index, line in enumerate(lines):
        head = _DOTNET_HEAD.search(line)
        if head is not None:
            found, open_head = _trace("dotnet", head["type"], head["message"], index, lines), True
        if open_head:
            for cause in _DOTNET_CAUSE.finditer(line):
                found = _trace("dotnet", cause["type"], cause["message"], index, lines)
    return found


def _rust(lines: Sequence[str]) -> Trace | None:
    found: Trace | None = None
    for index, line in enumerate(lines):
        panic = _RUST_PANIC.match(line)
        if panic is not None:
            following = lines[index + 1] if index + 1 < len(lines) else ""
            message = panic["message"] if "'" in panic["message"] or not following else following
            found = _trace("rust", "panic", message, index, lines)
    return found


# What a text must contain to be worth a runtime's reader.
_READERS: tuple[tuple[tuple[str, ...], Callable[[Sequence[str]], Trace | None]], ...] = (
    (("Traceback (most recent",), _python),
    (("nhandled exception",), _dotnet),
    (("Caused by:", "\tat ", "    at ", "\\tat ", "Exception in thread"), _java),
    (("    at ", "Cannot find module"), _node),
    (("panic: ", "fatal error: "), _go),
    (("panicked at",), _rust),
)
