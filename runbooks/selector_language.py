"""The Common Expression Language of device selectors: what cel-python evaluates, with the functions that Kubernetes adds.

Imports cel-python, which costs a third of a second: only `device_selector` imports it, when there is a selector to evaluate. What it
cannot evaluate as the scheduler would raises UnknownAnswerError, never a guess. Expressions are text from a cluster: their length, their
strings and the steps of one evaluation are bounded, regular expressions are RE2's, and no expression is ever turned into Python code.
Environment: k8s.io/dynamic-resource-allocation/cel/compile.go and k8s.io/apiserver/pkg/cel/library.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import celpy
import lark
import re2
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import Activation, CELEvalError, CELUnsupportedError, Evaluator

from cluster.facts.dra import Device
from cluster.quantity import parse_quantity

# resourceapi.CELSelectorExpressionMaxLength.
EXPRESSION_LIMIT = 10 * 1024
# Of one evaluation, in visited nodes of the syntax tree: a comparison takes about thirty, so this is some two hundred of them.
STEP_LIMIT = 6_000
TEXT_LIMIT = 65_536
REMEMBERED = 256


class UnknownAnswerError(Exception):
    """The expression uses what cannot be evaluated here, or costs more than is spent on one."""


class AbsentKeyError(Exception):
    """The device has no such attribute or capacity; the scheduler aborts with `no such key`."""


class EvaluationError(Exception):
    """The scheduler aborts with an evaluation error, such as `no such overload`."""


# The grammar's pattern of strings tries both readings of each backslash until a quote closes it; this one has one reading.
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\[^\n])*\"|'(?:[^'\\\n]|\\[^\n])*'")
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_MACROS = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 2}
_BUILT_IN_FUNCTIONS = frozenset({"has", "size", "int", "uint", "double", "string", "bool", "dyn"})
_BUILT_IN_METHODS = frozenset({"size", "contains", "startsWith", "endsWith"})


class Quantity(float):
    """An amount that is compared by methods only."""


class Version:
    """A semantic version; `rank` orders it as https://semver.org does, pre-releases before the release."""

    def __init__(self, text: str) -> None:
        found = _VERSION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no semantic version")
        self.numbers = tuple(int(part) for part in found.groups()[:3])
        labels = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (found[4] or "").split(".") if part)
        self.rank = (self.numbers, not labels, labels)


class _Domains(celtypes.MapType):
    """Attributes by domain: a domain that the device lacks is an empty map, though `in` tells that it is not there."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if key in self else celtypes.MapType()


class Program:
    """One compiled expression. Raises UnknownAnswerError when it is made of one that cannot be evaluated here."""

    def __init__(self, expression: str) -> None:
        if len(expression) > EXPRESSION_LIMIT or re.search(r"[\"']", _STRING.sub("", expression)):
            raise UnknownAnswerError("it is too long, or a string in it does not end")
        try:
            with _COMPILING:
                self._tree = _environment().compile(expression)
        except (CELParseError, RecursionError) as error:
            raise UnknownAnswerError("its syntax is not known here") from error
        _check(self._tree)

    def evaluate(self, device: celtypes.MapType) -> bool:
        """Whether the device is selected. Raises AbsentKeyError, EvaluationError, UnknownAnswerError."""
        activation = Activation(annotations=_environment().annotations, functions=_FUNCTIONS)
        try:
            value = _Bounded(self._tree, activation, [STEP_LIMIT]).evaluate({"device": device})
        except CELEvalError as error:
            cause = error.args[1] if len(error.args) > 1 else None
            if cause is KeyError:
                raise AbsentKeyError(str(error.args[0])) from error
            raise EvaluationError(str(error.args[0])[:200]) from error
        except (RecursionError, AttributeError, TypeError, ValueError, KeyError, IndexError, CELUnsupportedError) as error:
            raise UnknownAnswerError(str(error)[:200]) from error
        if not isinstance(value, celtypes.BoolType | bool):
            raise UnknownAnswerError("its value is neither true nor false")
        return bool(value)


@functools.lru_cache(REMEMBERED)
def program(expression: str) -> Program | None:
    """The compiled expression; None where it cannot be evaluated here."""
    try:
        return Program(expression)
    except UnknownAnswerError:
        return None


def device_value(device: Device, driver: str) -> celtypes.MapType:
    """The variable `device`: names without a domain are in the driver's."""
    attributes, capacity = _Domains(), _Domains()
    for name, attribute in (device.attributes or {}).items():
        value: Any
        match attribute.value:
            case bool() as flag:
                value = celtypes.BoolType(flag)
            case int() as number:
                value = celtypes.IntType(number)
            case str() as text:
                value = Version(text) if attribute.version is not None else celtypes.StringType(text)
            case _:
                continue
        _put(attributes, name, driver, value)
    for name, amount in (device.capacity or {}).items():
        _put(capacity, name, driver, Quantity(parse_quantity(amount.value) or 0.0))
    made = {
        "driver": celtypes.StringType(driver),
        "allowMultipleAllocations": celtypes.BoolType(bool(device.allow_multiple_allocations)),
        "attributes": attributes,
        "capacity": capacity,
    }
    return celtypes.MapType({celtypes.StringType(name): value for name, value in made.items()})


def _put(domains: _Domains, name: str, driver: str, value: Any) -> None:
    domain, _, short = name.rpartition("/")
    key = celtypes.StringType(domain or driver)
    if key not in domains:
        domains[key] = celtypes.MapType()
    domains[key][celtypes.StringType(short)] = value


# The library's parser keeps the text that it parses in a field that threads share (celpy.celparser.CELParser.parse).
_COMPILING = threading.Lock()


@functools.cache
def _environment() -> celpy.Environment:
    return celpy.Environment()


class _Bounded(Evaluator):
    """The library's evaluator, with a bound that the evaluations of macros share."""

    def __init__(self, tree: lark.Tree[Any], activation: Activation, left: list[int]) -> None:
        super().__init__(tree, activation)
        self._left = left

    def sub_evaluator(self, ast: lark.Tree[Any]) -> Evaluator:
        return _Bounded(ast, self.activation, self._left)

    def _visit_tree(self, tree: lark.Tree[Any]) -> Any:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise UnknownAnswerError(f"it takes more than {STEP_LIMIT} steps")
        return super()._visit_tree(tree)


def _check(tree: lark.Tree[Any]) -> None:
    """Raises UnknownAnswerError for names that Kubernetes or this module does not know, so that no missing function looks like a missing
    key."""
    bound = {"device"}
    for node in tree.iter_subtrees():
        if node.data == "member_dot_arg" and str(node.children[1]) in _MACROS:
            arguments = _arguments(node)
            if len(arguments) != _MACROS[str(node.children[1])]:
                raise UnknownAnswerError(f"a form of {node.children[1]} that is not known here")
            bound.update(str(token) for token in arguments[0].scan_values(lambda _: True))
    for node in tree.iter_subtrees():
        match node.data:
            case "ident" if str(node.children[0]) not in bound:
                raise UnknownAnswerError(f"name {node.children[0]}")
            case "ident_arg" if str(node.children[0]) not in _BUILT_IN_FUNCTIONS | _OWN_FUNCTIONS:
                raise UnknownAnswerError(f"function {node.children[0]}")
            case "member_dot_arg" if str(node.children[1]) not in _BUILT_IN_METHODS | _OWN_METHODS | _MACROS.keys():
                raise UnknownAnswerError(f"method {node.children[1]}")
            case "member_object" | "dot_ident" | "dot_ident_arg":
                raise UnknownAnswerError("an object or an absolute name")


def _arguments(node: lark.Tree[Any]) -> list[Any]:
    listed = node.children[2] if len(node.children) > 2 else None
    return list(listed.children) if isinstance(listed, lark.Tree) else []


# ---- what Kubernetes adds, and what cel-go does otherwise than the library


def _heedful(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hands an error that is an operand on, as the library's operators do."""

    @functools.wraps(function)
    def wrapped(*operands: Any) -> Any:
        return next((item for item in operands if isinstance(item, CELEvalError)), None) or function(*operands)

    return wrapped


def _equal(left: Any, right: Any) -> bool:
    """Across types false, except among numbers; the library has no answer there."""
    if _numeric(left) and _numeric(right):
        return float(left) == float(right) if isinstance(left, float) or isinstance(right, float) else int(left) == int(right)
    if isinstance(left, Version) and isinstance(right, Version):
        return left.rank == right.rank
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(_equal(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, Quantity):
        return float(left) == float(right)
    return bool(left == right)


def _numeric(value: Any) -> bool:
    return isinstance(value, celtypes.IntType | celtypes.UintType | celtypes.DoubleType)


def _less(left: Any, right: Any) -> bool:
    comparable = (_numeric(left) and _numeric(right)) or (
        type(left) is type(right) and isinstance(left, celtypes.StringType | celtypes.BoolType)
    )
    if not comparable:
        raise TypeError(f"no such overload: {type(left).__name__} < {type(right).__name__}")
    if isinstance(left, celtypes.StringType):
        return str(left) < str(right)
    return float(left) < float(right) if isinstance(left, float) or isinstance(right, float) else int(left) < int(right)


def _within(item: Any, holder: Any) -> bool:
    if not isinstance(holder, list | dict):
        raise TypeError("no such overload: in")
    return any(_equal(item, one) for one in holder)


def _compared(left: Any, right: Any) -> int:
    if isinstance(left, Version) and isinstance(right, Version):
        return (left.rank > right.rank) - (left.rank < right.rank)
    return (_amount(left) > _amount(right)) - (_amount(left) < _amount(right))


def _amount(value: Any) -> float:
    if not isinstance(value, Quantity):
        raise TypeError("no such overload: neither a quantity nor a version")
    return float(value)


def _parsed_quantity(text: Any) -> Quantity:
    value = parse_quantity(_text(text))
    if value is None:
        raise ValueError(f"{text!r} is no quantity")
    return Quantity(value)


def _parsed_version(text: Any) -> Version:
    return Version(_text(text))


def _parses(parse: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def test(text: Any) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return test


def _text(value: Any) -> str:
    if not isinstance(value, celtypes.StringType):
        raise TypeError(f"no such overload: {type(value).__name__} where a string is wanted")
    return str(value)


def _matches(text: Any, pattern: Any) -> bool:
    try:
        return re2.search(_text(pattern), _text(text)) is not None
    except re2.error as error:
        raise ValueError(f"not a regular expression of RE2: {error}") from error


def _replaced(text: Any, old: Any, new: Any) -> str:
    grown = len(_text(text)) + (_text(text).count(_text(old)) if old else len(text) + 1) * len(_text(new))
    if grown > TEXT_LIMIT:
        raise UnknownAnswerError("it makes a text that is too long")
    return _text(text).replace(str(old), str(new))


def _substring(text: Any, start: Any, end: Any = None) -> str:
    limit = len(_text(text)) if end is None else int(end)
    if not 0 <= int(start) <= limit <= len(text):
        raise ValueError("substring out of range")
    return str(text)[int(start) : limit]


def _ascii(change: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda text: "".join(change(letter) if letter.isascii() else letter for letter in _text(text))


def _boolean(function: Callable[..., bool]) -> Callable[..., celtypes.BoolType]:
    return _heedful(lambda *operands: celtypes.BoolType(function(*operands)))


def _integer(function: Callable[..., int]) -> Callable[..., celtypes.IntType]:
    return _heedful(lambda *operands: celtypes.IntType(function(*operands)))


def _string(function: Callable[..., str]) -> Callable[..., celtypes.StringType]:
    return _heedful(lambda *operands: celtypes.StringType(function(*operands)))


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "_==_": _boolean(_equal),
    "_!=_": _boolean(lambda left, right: not _equal(left, right)),
    "_<_": _boolean(_less),
    "_>_": _boolean(lambda left, right: _less(right, left)),
    "_<=_": _boolean(lambda left, right: _less(left, right) or _equal(left, right)),
    "_>=_": _boolean(lambda left, right: _less(right, left) or _equal(left, right)),
    "_in_": _boolean(_within),
}
_METHODS: Mapping[str, Callable[..., Any]] = {
    "compareTo": _integer(_compared),
    "isGreaterThan": _boolean(lambda left, right: _compared(left, right) > 0),
    "isLessThan": _boolean(lambda left, right: _compared(left, right) < 0),
    "sign": _integer(lambda value: (_amount(value) > 0) - (_amount(value) < 0)),
    "isInteger": _boolean(lambda value: _amount(value).is_integer()),
    "asInteger": _integer(lambda value: int(_amount(value))),
    "asApproximateFloat": _heedful(lambda value: celtypes.DoubleType(_amount(value))),
    "major": _integer(lambda value: value.numbers[0]),
    "minor": _integer(lambda value: value.numbers[1]),
    "patch": _integer(lambda value: value.numbers[2]),
    "lowerAscii": _string(_ascii(str.lower)),
    "upperAscii": _string(_ascii(str.upper)),
    "trim": _string(lambda text: _text(text).strip()),
    "replace": _string(_replaced),
    "substring": _string(_substring),
    "indexOf": _integer(lambda text, part: _text(text).find(_text(part))),
    "split": _heedful(lambda text, part: celtypes.ListType(celtypes.StringType(item) for item in _text(text).split(_text(part)))),
    "matches": _boolean(_matches),
}
_OWN_METHODS = frozenset(_METHODS)
_PLAIN: Mapping[str, Callable[..., Any]] = {
    "quantity": _heedful(_parsed_quantity),
    "isQuantity": _boolean(_parses(_parsed_quantity)),
    "semver": _heedful(_parsed_version),
    "isSemver": _boolean(_parses(_parsed_version)),
}
_OWN_FUNCTIONS = frozenset({*_PLAIN, "matches"})
_FUNCTIONS = {**_OPERATORS, **_METHODS, **_PLAIN}
