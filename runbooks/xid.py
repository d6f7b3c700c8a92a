"""What an XID error of the NVIDIA driver means and asks for: the table is data, in `xids.yaml` with its sources.

It decides about one number at a time; which of several came first is for who has the times.
"""

from __future__ import annotations

import enum
import re
from functools import cache
from importlib import resources

import msgspec

# The driver's own words of XID 154, preferred to any table (NVRM "GPU recovery action changed from … to …").
_VERDICT = re.compile(r"recovery action changed from \S+ \([^)]*\) to \S+ \((?P<action>[^)]*)\)")
_NUMBER = re.compile(r"(?i)xid(?:\s*\([^)]*\))?\D{0,12}?(\d{1,3})\b")
# Of an NVLink 5 error the word decides: most that are not fatal are to be ignored (XID 144 to 150).
_NOT_FATAL = re.compile(r"\bNonfatal\b")


class Family(enum.Enum):
    APPLICATION = "application"
    MEMORY = "memory"
    REMAPPED = "remapped"
    BUS = "bus"
    FIRMWARE = "firmware"
    LINK = "link"
    HARDWARE = "hardware"
    VERDICT = "verdict"
    SYMPATHETIC = "sympathetic"
    HARMLESS = "harmless"


class Xid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row: `asks` is what NVIDIA asks for at once."""

    family: Family
    name: str
    asks: str


@cache
def table() -> dict[int, Xid]:
    """Every known XID by its number."""
    return msgspec.yaml.decode(resources.files("runbooks").joinpath("xids.yaml").read_bytes(), type=dict[int, Xid])


def number_in(message: str) -> int | None:
    """The XID that a message names; None without one."""
    match = _NUMBER.search(message)
    return int(match[1]) if match is not None else None


def is_minor(message: str) -> bool:
    """Whether the driver itself calls an NVLink error one that is not fatal."""
    return _NOT_FATAL.search(message) is not None


def words(number: int, message: str = "") -> str:
    """` (GPU has fallen off the bus; NVIDIA asks: reboot the node)` after the number; "" for one that is not known."""
    row, verdict = table().get(number), _VERDICT.search(message)
    if row is None:
        return ""
    asks = f"the driver says: {verdict['action']}" if verdict else f"NVIDIA asks: {row.asks}"
    return f" ({row.name}; {asks})"


def words_in(message: str) -> str:
    """What the XID in a message means, "" where there is none."""
    number = number_in(message)
    return words(number, message) if number is not None else ""
