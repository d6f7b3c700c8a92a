"""What a log says: its lines folded into templates with counts, the signs of known failures in them, and the innermost exception.

Pure text in, data out. It knows the words of runtimes, databases, brokers and model servers, not what they mean for a cluster: that is
`detectors/applications`. A log is untrusted: nothing here acts on what a line asks for, and a line counts only by matching a known form.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from cluster.reading import LogText
from runbooks.gauges import Gauge, growing
from runbooks.logsigns import FAILURES, HARMLESS, Form, address_in, reports_error, speaks_of_trouble
from runbooks.traces import Trace, innermost

TEMPLATE_LIMIT = 400
LINE_LIMIT = 2_000
# Work is bounded: of a longer log only the last lines are looked at.
LINES_LIMIT = 20_000
TRACE_LINES_LIMIT = 2_000
# A call that takes this long is slow for a request that a person or another service waits for.
SLOW_SECONDS = 2.0

# Words with a digit are what differs between lines of one kind: numbers, ids, addresses, times.
_VARIABLE = re.compile(r"[\w.:-]*\d[\w.:-]*")
_LEADING_TIME = re.compile(r"^[^\s{\"]*\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*\s+(?:stdout|stderr)?\s*[FP]?\s*")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_DURATION = re.compile(
    r"(?:took|completed in|rendered in|finished in|executed in|elapsed|duration|latency|response[_ ]?time|responseTime|slow query)"
    r"[\"']?\s*(?:in|of|was|is)?\s*[:=(]?\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>ms\b|milliseconds?\b|s\b|secs?\b|seconds?\b)?",
    re.I,
)
_DATABASE = re.compile(r"database|\bdb\b|query|sql\b|stored procedure|mongo|redis|postgres|mysql", re.I)
_LISTENING = re.compile(
    r"(?:listening|running|serving|started|server (?:is )?up)\b[^\n]{0,60}?(?:port[ :=]+|:)(?P<port>\d{2,5})\b(?![.:]\d)", re.I
)
_WAITING = re.compile(
    r"(?:still )?waiting (?:for|on) (?:service |host |pod |the )?[\"']?(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(?P<port>\d+))?", re.I
)
_STATUS = re.compile(
    r"(?:\"\s|HTTP/\d(?:\.\d)?\"?\s)(?P<status>[1-5]\d\d)\b|\bstatus(?:_?code)?[\"']?\s*[:=]\s*[\"']?(?P<named>[1-5]\d\d)\b", re.I
)
_MENTION = re.compile(r"(?<![\w.])(?P<host>[a-z][a-z0-9-]*[a-z0-9](?:\.[a-z0-9-]+)*):(?P<port>\d{4,5})\b", re.I)
_NOTHING = frozenset({"undefined", "null", "none", "nil", "nan"})
_UNIMPORTANT_HOSTS = frozenset(
    {"application", "a", "the", "connection", "connections", "startup", "shutdown", "database", "server", "requests"}
)


class Sign(Struct, frozen=True):
    """One known failure in a log. `text` is the newest line of it, `times` how often it was seen, `from_end` how many lines came after
    the newest one. `host`, `port`, `user` and `name` are what the line names, where it does. `over_seconds` is by how much the log went on
    after the newest one, by its own timestamps; None where lines carry none."""

    kind: str
    text: str
    times: int
    from_end: int
    first: int
    host: str | None = None
    port: int | None = None
    user: str | None = None
    name: str | None = None
    over_seconds: float | None = None


class Slow(Struct, frozen=True):
    """Calls that report their own duration: how many of them were slow, the median in seconds of those, and one of them."""

    text: str
    times: int
    median_seconds: float
    database: bool


class Mention(Struct, frozen=True):
    """An address that some line names, whatever it says about it."""

    host: str
    port: int


class Report(Struct, frozen=True):
    """What one log says. `signs` are ordered by how specific they are, then by how near the end. `answers` counts the HTTP statuses of an
    access log."""

    lines: int
    signs: tuple[Sign, ...] = ()
    errors: tuple[Sign, ...] = ()
    trace: Trace | None = None
    slow: tuple[Slow, ...] = ()
    listening: tuple[int, ...] = ()
    waiting_for: Sign | None = None
    mentions: tuple[Mention, ...] = ()
    answers: tuple[tuple[int, int], ...] = ()
    growing: tuple[Gauge, ...] = ()
    last_line: str = ""

    @property
    def principal(self) -> Sign | None:
        """The sign that explains an end best: the most specific among those near the end, else the most specific of all."""
        near = [sign for sign in self.signs if sign.from_end < 30]
        return (near or list(self.signs) or [None])[0]  # type: ignore[list-item]

    @property
    def quiet(self) -> bool:
        return not self.signs and not self.errors and self.trace is None


@lru_cache(maxsize=256)
def read(log: LogText) -> Report:
    """The report of one log; cached, because several detectors ask for the same one."""
    return read_lines(log.lines)


def read_lines(lines: Sequence[str]) -> Report:
    """The report of some lines, oldest first."""
    kept, stamped = _joined_questions([(plain, line) for line in lines[-LINES_LIMIT:] if (plain := _plain(line)).strip()])
    total = len(kept)
    ended = next((moment for line in reversed(stamped[-20:]) if (moment := moment_in(line)) is not None), None)
    signs: dict[tuple[str, str | None, int | None], Sign] = {}
    errors: list[Sign] = []
    shapes = _grouped(kept)
    for indexes in shapes.values():
        text = kept[indexes[-1]]
        if not speaks_of_trouble(text):
            continue
        form = _recognise(text)
        if form is not None and form.kind == HARMLESS:
            continue
        if form is None:
            if reports_error(text):
                over = _over(stamped[indexes[-1]], ended)
                errors.append(Sign("error", text, len(indexes), total - 1 - indexes[-1], indexes[0], over_seconds=over))
            continue
        sign = _sign(form, text, indexes, total, _over(stamped[indexes[-1]], ended))
        key = (sign.kind, sign.host, sign.port)
        signs[key] = _joined(signs[key], sign) if key in signs else sign
    firsts = [kept[indexes[0]] for indexes in shapes.values()]
    return Report(
        lines=total,
        signs=tuple(sorted(signs.values(), key=lambda sign: (_RANK[sign.kind], sign.from_end))),
        errors=tuple(sorted(errors, key=lambda sign: (-sign.times, sign.from_end)))[:20],
        trace=innermost(kept[-TRACE_LINES_LIMIT:]),
        slow=_slow(kept, shapes),
        listening=tuple(dict.fromkeys(int(found["port"]) for line in firsts if (found := _LISTENING.search(line))))[:5],
        waiting_for=_waiting(kept),
        mentions=tuple(dict.fromkeys(mention for line in firsts for mention in _mentions(line)))[:20],
        answers=_answers(kept, shapes),
        growing=growing(kept, shapes.values()),
        last_line=kept[-1] if kept else "",
    )


def templates(lines: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Lines folded by their shape (numbers and ids masked): newest line of each shape with its count, most frequent first."""
    counted: dict[str, tuple[str, int]] = {}
    for line in lines:
        text = _plain(line)
        if text.strip():
            shape = _shape(text)
            counted[shape] = (text, counted.get(shape, ("", 0))[1] + 1)
    return tuple(sorted(counted.values(), key=lambda item: -item[1]))[:TEMPLATE_LIMIT]


def _plain(line: str) -> str:
    # A message inside JSON has its quotation marks escaped; the forms know it as it was written.
    return _LEADING_TIME.sub("", _ANSI.sub("", line[:LINE_LIMIT])).replace('\\"', '"').rstrip()


# libpq before 14 names the host that refused in a question on the lines after the error (fe-connect.c, connectFailureMessage).
_QUESTION = re.compile(r"^\s*Is the server running on host")


def _joined_questions(lines: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Lines with such a question put behind the error that it belongs to; and, beside each, the line as it was logged."""
    joined: list[str] = []
    logged: list[str] = []
    for line, raw in lines:
        if joined and _QUESTION.match(line):
            joined[-1] = f"{joined[-1]} {line.strip()}"
        else:
            joined.append(line)
            logged.append(raw)
    return joined, logged


_DATED = re.compile(
    r"(?P<date>\d{4}[-/]\d\d[-/]\d\d)[T ](?P<time>\d\d:\d\d:\d\d)|\"(?:time|ts|timestamp)\":\s*(?P<epoch>\d{10})(?:\d{3})?\b"
)
# A date further right is one that the line tells of, not its own.
_DATE_WITHIN = 80


def moment_in(line: str) -> datetime | None:
    """When a line was logged, by the timestamp near its beginning, read as UTC: good for differences within one log only."""
    found = _DATED.search(line, 0, _DATE_WITHIN)
    if found is None:
        return None
    if found["epoch"]:
        return datetime.fromtimestamp(int(found["epoch"]), UTC)
    try:
        return datetime.fromisoformat(f"{found['date'].replace('/', '-')}T{found['time']}+00:00")
    except ValueError:
        return None


def _over(line: str, ended: datetime | None) -> float | None:
    moment = moment_in(line) if ended is not None else None
    return (ended - moment).total_seconds() if ended is not None and moment is not None else None


def _shape(text: str) -> str:
    return _VARIABLE.sub("#", text[:300])


def _grouped(lines: list[str]) -> dict[str, list[int]]:
    """The positions of lines, by shape."""
    shapes: dict[str, list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        shapes[_shape(line)].append(index)
    return shapes


def _recognise(text: str) -> Form | None:
    return next((form for form in FAILURES if form.pattern.search(text)), None)


_RANK = {form.kind: rank for rank, form in reversed(list(enumerate(FAILURES)))}


def _sign(form: Form, text: str, indexes: list[int], total: int, over: float | None) -> Sign:
    named = _named(form, text)
    host, port = named.get("host"), named.get("port")
    if host is None and form.addressed:
        host, found_port = address_in(text)
        port = port or found_port
    return Sign(
        # A peer called like a runtime's word for nothing is a variable that was not set.
        kind="missing-env" if host in _NOTHING else form.kind,
        text=text,
        times=len(indexes),
        from_end=total - 1 - indexes[-1],
        first=indexes[0],
        host=host,
        port=int(port) if port else None,
        user=named.get("user"),
        name=named.get("name"),
        over_seconds=over,
    )


def _named(form: Form, text: str) -> dict[str, str]:
    """What a form's groups caught anywhere in a line, by their name without its number: a line may match at several places, and the
    first need not be the one that names something."""
    named: dict[str, str] = {}
    for match in form.pattern.finditer(text):
        for key, value in match.groupdict().items():
            if value:
                named.setdefault(key.rstrip("0123456789"), value)
    return named


def _joined(one: Sign, other: Sign) -> Sign:
    newest = one if one.from_end <= other.from_end else other
    return Sign(
        kind=one.kind,
        text=newest.text,
        times=one.times + other.times,
        from_end=newest.from_end,
        first=min(one.first, other.first),
        host=one.host,
        port=one.port,
        user=one.user or other.user,
        name=one.name or other.name,
        over_seconds=newest.over_seconds,
    )


def _slow(lines: list[str], shapes: dict[str, list[int]]) -> tuple[Slow, ...]:
    """Calls of one shape of which a third or more, and three or more, take SLOW_SECONDS or longer; database calls first."""
    slow = []
    for indexes in shapes.values():
        if len(indexes) < 3 or _DURATION.search(lines[indexes[0]]) is None:
            continue
        seconds = {index: _seconds(found) for index in indexes if (found := _DURATION.search(lines[index]))}
        late = sorted((value, index) for index, value in seconds.items() if value >= SLOW_SECONDS)
        if len(late) >= max(3, len(seconds) / 3):
            median, index = late[len(late) // 2]
            slow.append(Slow(lines[index], len(late), median, bool(_DATABASE.search(lines[index]))))
    return tuple(sorted(slow, key=lambda item: (not item.database, -item.median_seconds)))[:5]


def _seconds(found: re.Match[str]) -> float:
    """Loggers that write a bare number (`responseTime`) mean milliseconds."""
    unit = (found["unit"] or "").lower()
    return float(found["value"]) / (1 if unit.startswith("s") else 1000)


def _answers(lines: list[str], shapes: dict[str, list[int]]) -> tuple[tuple[int, int], ...]:
    """(status, how often) of the requests that an access log reports, by status."""
    counted: Counter[int] = Counter()
    for indexes in shapes.values():
        if _STATUS.search(lines[indexes[0]]) is not None:
            counted.update(int(found["status"] or found["named"]) for index in indexes if (found := _STATUS.search(lines[index])))
    return tuple(sorted(counted.items()))


def _mentions(line: str) -> Iterator[Mention]:
    for found in _MENTION.finditer(line):
        if not re.search(r"\.(?:py|js|ts|go|java|rb|rs|cc|cpp|cs)$", found["host"]):
            yield Mention(found["host"].lower(), int(found["port"]))


def _waiting(lines: list[str]) -> Sign | None:
    """What the log says it waits for, when that is among its last words."""
    for from_end, line in enumerate(reversed(lines[-10:])):
        found = _WAITING.search(line)
        if found is not None and found["host"].lower() not in _UNIMPORTANT_HOSTS:
            times = sum(1 for other in lines if found["host"] in other)
            port = found["port"]
            return Sign("waiting", line, times, from_end, 0, host=found["host"], port=int(port) if port else None)
    return None
