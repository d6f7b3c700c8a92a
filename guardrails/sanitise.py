"""Control characters out of text that came from a cluster: what a terminal, a chat or a reader could be fooled by is shown, not obeyed.

Colour codes and terminal links disappear, everything else that is invisible or moves the cursor becomes a visible escape such as
`\\u202e`. Nothing is interpreted, and letters of any script stay as they are.
"""

from __future__ import annotations

import re

# CSI (ECMA-48 5.4), OSC/DCS/PM/APC/SOS up to their terminator or the end of the line, two-character escapes.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\|(?=\n)|\Z)|\x1b[ -/]*[0-~]")
_ASCII_CONTROLS = bytes(c for c in range(32) if c not in (9, 10)) + b"\x7f"
_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # soft hyphen, zero width, separators, bidi
    "\U000e0000-\U000e01ef"  # tags and supplementary variation selectors: an ASCII text nobody sees
    "\ud800-\udfff"  # lone surrogates cannot be written as UTF-8
    "]"
)


def sanitise(text: str) -> str:
    """Text that is safe to show. Tab and newline stay, a carriage return before a newline goes. Idempotent."""
    if text.isascii():
        raw = text.encode("ascii")
        if len(raw.translate(None, _ASCII_CONTROLS)) == len(raw):
            return text
    text = text.replace("\r\n", "\n")
    if "\x1b" in text:
        text = _SEQUENCE.sub("", text)
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 13:
        return "\\r"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
