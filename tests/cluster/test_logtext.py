"""Logs as lines: what is spread over several of them is still one secret."""

from __future__ import annotations

from cluster.logtext import shape_log
from tests.guardrails.test_redaction_corpus import SHAPED


def test_a_key_over_many_lines_goes_whole_or_cut_off() -> None:
    key = SHAPED["rsa key"]
    body = key.splitlines()[1]
    for ending in ("\n", "\r\n"):
        log = f"loading\n{key}\nready\n".replace("\n", ending).encode()
        assert shape_log(log, 100_000).lines == ("loading", "REDACTED", "ready")
    log = f"loading\n{key}\nready\n".encode()
    for limit_bytes in range(20, len(log), 7):
        shown = "\n".join(shape_log(log, limit_bytes).lines)
        assert not [line for line in key.splitlines()[1:-1] if line in shown]
    assert body in log.decode()


def test_a_printed_secret_keeps_only_its_keys() -> None:
    log = b"applying\nkind: Secret\ndata:\n  cert: c2VjcmV0\n  other: c2VjcmV0\ndone\n"
    assert shape_log(log, 100_000).lines == ("applying", "kind: Secret", "data:", "  cert: REDACTED", "  other: REDACTED", "done")


def test_ordinary_lines_stay_and_a_cut_begins_at_a_line() -> None:
    assert shape_log(b"one\ntwo\n", 100_000).lines == ("one", "two")
    cut = shape_log(b"one\ntwo\n", 6)
    assert cut.lines == ("two",)
    assert cut.cut is not None
