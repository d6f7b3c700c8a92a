"""Signed checkpoints: C2SP signed notes (c2sp.org/signed-note) over C2SP checkpoints (c2sp.org/tlog-checkpoint), and the key.

The key lives in a file of its own outside the database, so whoever can change the database cannot sign what they made of it.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from guardrails.errors import BadLedger

_ALGORITHM = b"\x01"  # Ed25519 in C2SP signed-note
_public = lru_cache(16)(Ed25519PublicKey.from_public_bytes)


class Checkpoint(Struct, frozen=True):
    """The size and root of a log at one moment."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Verifier(Struct, frozen=True):
    """A public key under a name; `text` is the C2SP vkey that people pin."""

    name: str
    raw: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ALGORITHM + self.raw).digest()[:4]

    @property
    def text(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ALGORITHM + self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From a vkey line. Raises BadLedger."""
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise BadLedger("This is no verifier key of the form name+id+base64.") from error
        verifier = cls(name, raw[1:])
        if raw[:1] != _ALGORITHM or len(raw) != 33 or verifier.key_id.hex() != key_id:
            raise BadLedger("The verifier key's id does not belong to its bytes.")
        return verifier

    def open(self, note: str) -> Checkpoint:
        """The checkpoint of a note that this key signed. Raises BadLedger."""
        text, separator, signatures = note.partition("\n\n")
        lines = text.split("\n")
        if not separator or len(lines) != 3 or not (lines[1].isascii() and lines[1].isdigit()):
            raise BadLedger("A checkpoint is not of the form of a signed note.")
        # Not `splitlines`, for which a line ends with any of ten characters.
        for line in signatures.split("\n"):
            parts = line.split(" ")
            if len(parts) == 3 and parts[0] == "—" and parts[1] == self.name:
                try:
                    signed = base64.b64decode(parts[2], validate=True)
                    root = base64.b64decode(lines[2], validate=True)
                    if signed[:4] != self.key_id:
                        continue
                    # The last character has bits that decode to nothing.
                    if base64.b64encode(signed).decode() != parts[2]:
                        raise BadLedger(f"The signature of the checkpoint of size {lines[1]} is not written as it was.")
                    _public(self.raw).verify(signed[4:], f"{text}\n".encode())
                except (InvalidSignature, ValueError) as error:
                    raise BadLedger(f"The signature of the checkpoint of size {lines[1]} is wrong.") from error
                return Checkpoint(lines[0], int(lines[1]), root)
        raise BadLedger(f"The checkpoint of size {lines[1]} is not signed by {self.name}.")

    def is_named_in(self, note: str) -> bool:
        """Whether a note says that this key has signed it."""
        for line in note.partition("\n\n")[2].splitlines():
            parts = line.split(" ")
            try:
                if len(parts) == 3 and parts[1] == self.name and base64.b64decode(parts[2])[:4] == self.key_id:
                    return True
            except ValueError:
                continue
        return False


class Signer:
    """The private key, in memory. A KMS would take the place of this class: `verifier` and `sign` are all that a ledger asks of it."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.verifier = Verifier(name, raw)

    @classmethod
    def load_or_create(cls, path: Path, name: str = "smokejumper") -> Signer:
        """The key in a file of mode 0600 that is made when absent. Raises BadLedger."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                _create_key(path)
            return cls(name, _read_key(path))
        except OSError as error:
            raise BadLedger(f"The ledger's key {path} cannot be used: {error.strerror}.") from error

    @classmethod
    def from_text(cls, text: str, name: str = "smokejumper") -> Signer:
        """A key that came another way than as our file: PEM, or the base64 of its PKCS8 on one line. Raises BadLedger."""
        text = text.strip()
        data = (
            text.encode() if text.startswith("-----BEGIN") else f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n".encode()
        )
        return cls(name, _parse_key(data, "in the configuration"))

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note of a checkpoint."""
        text = checkpoint.text()
        signature = base64.b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.verifier.name} {signature}\n"


def _create_key(path: Path) -> None:
    """Make the key, unless another process that starts at the same time is first. Whoever finds the file finds it whole."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        key = Ed25519PrivateKey.generate()
        fresh = path.with_name(f".{path.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_key(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise BadLedger(f"Others may read the ledger's key {path}.", next_step=f"chmod 600 {path}")
    return _parse_key(path.read_bytes(), str(path))


def _parse_key(data: bytes, where: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise BadLedger(f"The ledger's key {where} is damaged.", next_step="Restore it from a backup.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadLedger(f"The ledger's key {where} is not an Ed25519 key.")
    return key
