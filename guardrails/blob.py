"""What an entry rests on and may have to be forgotten: evidence and prompts, kept beside the ledger under a salted commitment.

The entry holds `HMAC-SHA256(salt, content)`; salt and content lie in a row of their own. Erasing that row leaves every hash valid, and
without the salt not even a short value can be guessed from the commitment. Copies elsewhere (backups, exports) are not reached from here.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Any, Literal, get_args

from msgspec import Struct
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guardrails.errors import BadLedger
from guardrails.redact import present
from guardrails.store import blobs

BlobKind = Literal["evidence", "prompt"]
KINDS: tuple[str, ...] = get_args(BlobKind)
CHARACTERS_MAX = 65_536
SALT_BYTES = 32


class Attachment(Struct, frozen=True):
    """A text that goes with an entry. Secrets are redacted from it and its length is bounded before anything is computed over it."""

    kind: BlobKind
    content: str


class Blob(Struct, frozen=True):
    """A kept text. `commitment` is what entries name it by."""

    commitment: str
    kind: str
    content: str


def new_salt() -> str:
    """Hex; from the system's source of randomness."""
    return secrets.token_hex(SALT_BYTES)


def commitment(salt: str, content: str) -> str:
    """Hex HMAC-SHA256 keyed by the salt. Raises ValueError when the salt is no hex."""
    return hmac.new(bytes.fromhex(salt), content.encode("utf-8", "surrogatepass"), sha256).hexdigest()


async def keep(connection: AsyncConnection, log: str, attachment: Attachment, salt: str) -> dict[str, Any]:
    """Store a text; what is returned belongs into the body of the entry, under `blobs`."""
    content = present(attachment.content, CHARACTERS_MAX)
    name = commitment(salt, content)
    row = {"log": log, "commitment": name, "kind": attachment.kind, "salt": salt, "content": content}
    await connection.execute(insert(blobs).values(**row))
    return {"commitment": name, "kind": attachment.kind, "characters": len(content)}


async def find(connection: AsyncConnection, log: str, name: str) -> Blob:
    """The text under a commitment. Raises BadLedger when there is none (any more), or another than was committed to."""
    row = (await connection.execute(select(blobs).where(blobs.c.log == log, blobs.c.commitment == name))).one_or_none()
    if row is None:
        raise BadLedger(f"No text is kept under {name[:80]!r}.", next_step="It may have been erased: smokejumper audit show.")
    if not is_committed(row.commitment, row.salt, row.content):
        raise BadLedger(f"The text under {name[:80]} is not the one that was kept.", next_step="Run: smokejumper audit verify.")
    return Blob(row.commitment, row.kind, row.content)


async def remove(connection: AsyncConnection, log: str, name: str) -> str:
    """Delete text and salt; its kind is returned. Raises BadLedger when there is none (any more)."""
    kind = (await connection.execute(select(blobs.c.kind).where(blobs.c.log == log, blobs.c.commitment == name))).scalar_one_or_none()
    if kind is None:
        raise BadLedger(f"No text is kept under {name[:80]!r}.", next_step="Commitments stand under `blobs` in: smokejumper audit show ID.")
    await connection.execute(delete(blobs).where(blobs.c.log == log, blobs.c.commitment == name))
    return str(kind)


def is_committed(name: str, salt: str, content: str) -> bool:
    """Whether a row holds what its commitment says."""
    try:
        return hmac.compare_digest(commitment(salt, content), name)
    except (ValueError, TypeError):
        return False
