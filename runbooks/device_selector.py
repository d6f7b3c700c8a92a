"""Evaluates the CEL selectors of device requests over published devices: the part of CEL that selectors really use.

The scheduler only says "cannot allocate all claims"; which of the selectors no device meets has to be computed here. What this
subset does not know evaluates to UNKNOWN, never to a guess. Grammar: https://github.com/google/cel-spec; variables: `device.driver`,
`device.attributes["domain"].name`, `device.capacity["domain"].name` (k8s.io/dynamic-resource-allocation/cel/compile.go).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Any

from cluster.facts.dra import Device
from cluster.quantity import parse_quantity


class Answer(enum.Enum):
    """MISSING_KEY: an attribute that the device lacks, which aborts the whole scheduling attempt."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    MISSING_KEY = "missing key"


class _UnsupportedError(Exception):
    """The expression uses something outside the subset."""


class _MissingKeyError(Exception):
    """The device has no such attribute or capacity."""


_TOKENS = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<op>&&|\|\||==|!=|<=|>=|[!<>()\[\].,?:+-]))"
)
EXPRESSION_LIMIT = 10_000


def selects(expression: str, device: Device, driver: str) -> Answer:
    """Whether a selector accepts a device of that driver."""
    if len(expression) > EXPRESSION_LIMIT:
        return Answer.UNKNOWN
    try:
        value = _Parser(tuple(_tokens(expression)), _device(device, driver)).run()
    except (_UnsupportedError, TypeError, IndexError, ValueError, AttributeError, re.error, RecursionError):
        return Answer.UNKNOWN
    except (_MissingKeyError, KeyError):
        return Answer.MISSING_KEY
    if not isinstance(value, bool):
        return Answer.UNKNOWN
    return Answer.YES if value else Answer.NO


def attributes_named(expression: str) -> tuple[str, ...]:
    """The attribute and capacity names that an expression asks for, to show beside what devices have."""
    return tuple(dict.fromkeys(re.findall(r"(?:attributes|capacity)\s*\[[^\]]+\]\s*\.\s*(\w+)", expression)))


class _Domains(dict[str, "dict[str, Any]"]):
    """Attributes by domain: a domain that the device lacks is an empty map, as in the scheduler."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


class _Quantity(float):
    """A resource quantity: compares by `compareTo` and the `isLessThan` family."""


class _Version(tuple[int, ...]):
    """A semantic version without its pre-release part."""


def _device(device: Device, driver: str) -> dict[str, Any]:
    attributes, capacity = _Domains(), _Domains()
    for name, attribute in (device.attributes or {}).items():
        domain, _, short = name.rpartition("/")
        value: Any = _version(attribute.version) if attribute.version is not None else attribute.value
        attributes.setdefault(domain or driver, {})[short] = value
    for name, amount in (device.capacity or {}).items():
        domain, _, short = name.rpartition("/")
        capacity.setdefault(domain or driver, {})[short] = _Quantity(parse_quantity(amount.value) or 0.0)
    return {"driver": driver, "attributes": attributes, "capacity": capacity, "allowMultipleAllocations": False}


def _version(text: str) -> _Version:
    return _Version(int(part) for part in re.findall(r"\d+", text.split("-")[0])[:3])


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKENS.match(text, position)
        if match is None:
            raise _UnsupportedError(text[position : position + 10])
        kind = match.lastgroup or ""
        yield kind, match[kind]
        position = match.end()


class _Parser:
    """Recursive descent that evaluates as it reads. `&&` and `||` short-circuit as CEL's do: an error loses to a deciding operand."""

    def __init__(self, tokens: tuple[tuple[str, str], ...], device: dict[str, Any]) -> None:
        self.tokens = tokens
        self.at = 0
        self.names: dict[str, Any] = {"device": device, "true": True, "false": False, "null": None}

    def run(self) -> Any:
        value = self._or()
        if self.at != len(self.tokens):
            raise _UnsupportedError(self.tokens[self.at][1])
        return value()

    def _peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _take(self, *words: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at][0] in ("op", "name") and self._peek() in words:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def _expect(self, word: str) -> None:
        if self._take(word) is None:
            raise _UnsupportedError(f"expected {word}, found {self._peek()}")

    def _or(self) -> Callable[[], Any]:
        left = self._and()
        while self._take("||"):
            left = _either(left, self._and(), decisive=True)
        return left

    def _and(self) -> Callable[[], Any]:
        left = self._relation()
        while self._take("&&"):
            left = _either(left, self._relation(), decisive=False)
        return left

    def _relation(self) -> Callable[[], Any]:
        left = self._unary()
        word = self._take("==", "!=", "<", "<=", ">", ">=", "in")
        if word is None:
            return left
        right = self._unary()
        operations: dict[str, Callable[[Any, Any], Any]] = {
            "==": lambda a, b: a == b,
            "!=": lambda a, b: a != b,
            "<": lambda a, b: a < b,
            "<=": lambda a, b: a <= b,
            ">": lambda a, b: a > b,
            ">=": lambda a, b: a >= b,
            "in": lambda a, b: a in b,
        }
        operate = operations[word]
        return lambda: operate(left(), right())

    def _unary(self) -> Callable[[], Any]:
        if self._take("!"):
            inner = self._unary()
            return lambda: not inner()
        if self._take("-"):
            inner = self._unary()
            return lambda: -inner()
        return self._postfix(self._primary())

    def _primary(self) -> Callable[[], Any]:
        if self._take("("):
            inner = self._or()
            self._expect(")")
            return inner
        if self._take("["):
            items = self._arguments("]")
            return lambda: [item() for item in items]
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            number: float = float(text) if "." in text else int(text)
            return lambda: number
        if kind == "string":
            content = re.sub(r"\\(.)", r"\1", text[1:-1])
            return lambda: content
        if kind == "name" and self._take("("):
            return _call(text, self._arguments(")"))
        if kind == "name" and text in self.names:
            value = self.names[text]
            return lambda: value
        raise _UnsupportedError(text)

    def _arguments(self, end: str) -> list[Callable[[], Any]]:
        items: list[Callable[[], Any]] = []
        while not self._take(end):
            items.append(self._or())
            if not self._take(","):
                self._expect(end)
                break
        return items

    def _postfix(self, value: Callable[[], Any]) -> Callable[[], Any]:
        while True:
            if self._take("["):
                key = self._or()
                self._expect("]")
                value = _index(value, key)
            elif self._take("."):
                name = self.tokens[self.at][1]
                self.at += 1
                value = _method(value, name, self._arguments(")")) if self._take("(") else _index(value, _constant(name))
            else:
                return value


def _constant(value: str) -> Callable[[], str]:
    return lambda: value


def _either(left: Callable[[], Any], right: Callable[[], Any], *, decisive: bool) -> Callable[[], Any]:
    def evaluate() -> Any:
        try:
            first = left()
        except _MissingKeyError:
            if right() is decisive:
                return decisive
            raise
        return decisive if first is decisive else right()

    return evaluate


def _index(value: Callable[[], Any], key: Callable[[], Any]) -> Callable[[], Any]:
    def evaluate() -> Any:
        holder, name = value(), key()
        if not isinstance(holder, dict):
            raise _UnsupportedError(str(name))
        if name not in holder and not isinstance(holder, _Domains):
            raise _MissingKeyError(str(name))
        return holder[name]

    return evaluate


def _call(name: str, arguments: list[Callable[[], Any]]) -> Callable[[], Any]:
    match name:
        case "quantity":
            return lambda: _Quantity(_known(parse_quantity(arguments[0]())))
        case "semver":
            return lambda: _version(arguments[0]())
        case "has":
            return lambda: _present(arguments[0])
        case "int" | "double":
            return lambda: float(arguments[0]())
        case "string":
            return lambda: str(arguments[0]())
    raise _UnsupportedError(name)


def _known(value: float | None) -> float:
    if value is None:
        raise _UnsupportedError("quantity")
    return value


def _present(value: Callable[[], Any]) -> bool:
    try:
        value()
    except _MissingKeyError:
        return False
    return True


def _matches(pattern: str, text: str) -> bool:
    """CEL uses RE2, which never backtracks; patterns that could make this engine do so are left undecided."""
    if re.search(r"[*+}]\)*[*+{]|\|[^)]*\)[*+{]", pattern) or len(pattern) > 200:
        raise _UnsupportedError(pattern)
    return re.search(pattern, text[:256]) is not None


def _method(value: Callable[[], Any], name: str, arguments: list[Callable[[], Any]]) -> Callable[[], Any]:
    methods: dict[str, Callable[[Any, list[Any]], Any]] = {
        "matches": lambda this, given: _matches(given[0], this),
        "contains": lambda this, given: given[0] in this,
        "startsWith": lambda this, given: this.startswith(given[0]),
        "endsWith": lambda this, given: this.endswith(given[0]),
        "lowerAscii": lambda this, _: this.lower(),
        "upperAscii": lambda this, _: this.upper(),
        "compareTo": lambda this, given: (this > given[0]) - (this < given[0]),
        "isGreaterThan": lambda this, given: this > given[0],
        "isLessThan": lambda this, given: this < given[0],
        "size": lambda this, _: len(this),
    }
    if name not in methods:
        raise _UnsupportedError(name)
    method = methods[name]
    return lambda: method(value(), [item() for item in arguments])
