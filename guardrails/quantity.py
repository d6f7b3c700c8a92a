"""Resource quantities that an action may write: plain, positive, bounded, and compared exactly.

Stricter than the API: no exponents, no sign, so that a person sees the amount at once
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

CPU_MAX = Decimal(1024)
MEMORY_MAX = Decimal(16 * 2**40)
STORAGE_MAX = Decimal(64 * 2**40)

_SUFFIXES: dict[str, Decimal] = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{letter: Decimal(10) ** (3 * power) for power, letter in enumerate("kMGT", start=1)},
    **{f"{letter}i": Decimal(2) ** (10 * power) for power, letter in enumerate("KMGT", start=1)},
}
_PATTERN = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)", re.ASCII)


def amount(text: str) -> Decimal | None:
    """`500m` is 0.5, `2Gi` is 2147483648. None for what is not of this plain form."""
    found = _PATTERN.fullmatch(text)
    return Decimal(found[1]) * _SUFFIXES[found[2]] if found else None


def observed_amount(value: object) -> Decimal | None:
    """The amount that an object of the cluster holds, None when it has none that can be compared."""
    return amount(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _bounded(limit: Decimal, what: str) -> AfterValidator:
    def check(value: str) -> str:
        size = amount(value)
        if size is None or not 0 < size <= limit:
            raise ValueError(f"not an amount of {what} above 0 and up to the limit, like 500m, 2 or 4Gi")
        return value

    return AfterValidator(check)


Cpu = Annotated[str, _bounded(CPU_MAX, "CPU")]
Memory = Annotated[str, _bounded(MEMORY_MAX, "memory")]
Storage = Annotated[str, _bounded(STORAGE_MAX, "storage")]
