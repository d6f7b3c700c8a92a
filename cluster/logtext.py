"""The tail of a log as lines that are fit to show: bounded, cut at a line's beginning, redacted: line by line, and whole where a
secret may be spread over several.

Pure. How much to ask of an API server is planned here too, because asking and cutting must agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.reading import LogText
from guardrails.redact import present, redact

LINE_LIMIT = 2_000
# What shows that a secret of several lines may be among them: a key, or a Secret that was printed.
MANY_LINES = ("PRIVATE KEY-----", "PGP MESSAGE-----", "kind: Secret")
BYTES_PER_LINE = 80


def plan_tail(limit_bytes: int) -> Iterator[tuple[int, int]]:
    """(tailLines, limitBytes) to ask for, most first: each later pair asks for fewer lines with the same room for them."""
    lines = max(50, min(5_000, limit_bytes // BYTES_PER_LINE))
    for divisor in (1, 8, 64):
        yield max(10, lines // divisor), max(limit_bytes, 16_384) * 4


def shape_log(content: bytes, limit_bytes: int, *, lines_asked: int | None = None, whole: bool = True) -> LogText:
    """The last `limit_bytes` of a log, redacted.

    `lines_asked` is how many lines were asked for when it came from a tail; `whole` is False when the source cut its end.
    """
    kept = content[-limit_bytes:] if limit_bytes < len(content) else content
    if len(kept) < len(content):
        newline = kept.find(b"\n")
        kept = kept[newline + 1 :] if 0 <= newline < len(kept) - 1 else kept
    text = kept.decode("utf-8", "replace")
    if any(sign in text for sign in MANY_LINES):
        text = redact(text.replace("\r\n", "\n"))
    lines = text.splitlines()
    return LogText(tuple(present(line, LINE_LIMIT) for line in lines), _cut(content, kept, lines, lines_asked, whole))


def _cut(content: bytes, kept: bytes, lines: list[str], lines_asked: int | None, whole: bool) -> str | None:
    if not whole:
        return f"the newest lines are over the limit and were cut by the server after {len(content)} bytes"
    if len(kept) < len(content):
        return f"{len(content) - len(kept)} earlier bytes left out, and what came before the last {lines_asked or 'few'} lines"
    if lines_asked is not None and len(lines) >= lines_asked:
        return f"only the last {lines_asked} lines were read"
    return None
