"""Kubernetes resource quantities as numbers (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

Quantity: TypeAlias = str | int | float

_SUFFIXES: dict[str, Decimal] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_PATTERN = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([numkKMGTPE]i?|)$")


def parse_quantity(text: Quantity | None) -> float | None:
    """`"500m"` -> 0.5, `"2Gi"` -> 2147483648.0, `4` -> 4.0. None when it is absent or not a quantity."""
    if text is None:
        return None
    return float(text) if isinstance(text, int | float) else _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> float | None:
    """Remembered: a cluster's many pods share few quantities."""
    match = _PATTERN.match(text.strip())
    if match is None or match[2] not in _SUFFIXES:
        return None
    return float(Decimal(match[1]) * _SUFFIXES[match[2]])
