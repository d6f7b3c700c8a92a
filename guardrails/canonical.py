"""One way to write a JSON document, so that equal documents are equal text and a digest of what is stored says what it is.

What is written here is RFC 8785 for all that we store: names in ASCII, whole numbers, no fractions. Where that does not hold, `is_same`
falls back to the full algorithm, which is thirty times as slow.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import rfc8785
from msgspec import json
from pydantic import BaseModel

_sorted = json.Encoder(order="sorted").encode
_decode = json.Decoder().decode


def dumps(value: Any) -> bytes:
    """A document of plain data."""
    return _sorted(value)


def stored(document: BaseModel | dict[str, Any]) -> str:
    """A document as tables keep it."""
    return dumps(document.model_dump(mode="json") if isinstance(document, BaseModel) else document).decode()


def is_same(text: str, wanted: bytes, domain: bytes = b"") -> bool:
    """Whether a JSON text, written canonically after `domain`, has this SHA-256. Raises ValueError, TypeError for what is no JSON text."""
    if sha256(domain + text.encode("utf-8", "surrogatepass")).digest() == wanted:
        return True
    # Written by a version that did not sort, or something else.
    value = _decode(text)
    return any(sha256(domain + write(value)).digest() == wanted for write in (dumps, rfc8785.dumps))
