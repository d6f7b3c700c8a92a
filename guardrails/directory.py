"""The people of one installation: names, groups and hashed tokens, in one file that only its owner can write.

A token proves who somebody is; groups say what they may approve. Tokens are 256 random bits, so a salted SHA-256 is enough: there is
nothing to guess, and checking stays cheap. The token itself is shown once and stored nowhere. The secrets of one-time codes have to be
stored as they are, so they lie in a file beside it that nobody else may even read, and nothing starts while somebody else may.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from guardrails.errors import BadDirectory, NotAuthenticated

DEFAULT_GROUPS = ("sre-oncall", "gpu-oncall")
AUTHENTICATORS = "authenticators.json"
TOKEN_PREFIX = "sj"  # noqa: S105 - a prefix, so that leaked tokens are recognised, is no secret
# As long as the HMAC-SHA-1 of one-time codes (RFC 4226 section 4).
SECOND_SECRET_BYTES = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("not a legal name (letters, digits, '.', '_', '@', '+', '-', at most 128)")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Person(BaseModel):
    """Somebody who may ask or approve. `kubernetes_user` is how clusters know them, for the access review of requesters.

    `os_users` are their accounts on the machine: who asks over stdio is known by it. It proves nothing that an approval rests on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    groups: tuple[Name, ...] = ()
    tenants: tuple[Name, ...] = ("default",)
    kubernetes_user: str | None = None
    kubernetes_groups: tuple[str, ...] = ()
    os_users: tuple[Name, ...] = ()


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    person: Person
    salt: str
    token_hash: str
    # Where the second secret lay at first: it is taken from there, and never written there again.
    step_up: str | None = Field(default=None, exclude=True, repr=False)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    groups: tuple[Name, ...] = DEFAULT_GROUPS
    people: tuple[_Entry, ...] = ()


class _Secrets(BaseModel):
    """The secrets of one-time codes by the names of people."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: int = 1
    secrets: dict[Name, str] = {}


class Directory:
    """The people in a file. Reads are from memory as loaded; `refresh` reads the file again, so that leaving a group counts at once.

    The secrets of their authenticators are read from the file beside it whenever one is asked for, and not kept.
    """

    def __init__(self, path: Path, content: _File) -> None:
        self._path = path
        self._secrets = path.with_name(AUTHENTICATORS)
        self._content = content

    @classmethod
    def load(cls, path: Path) -> Directory:
        """The directory of that file, empty when there is none. Raises BadDirectory when it is unreadable, when others may write it, or
        when others may read the secrets beside it.
        """
        directory = cls(path, _read(path))
        directory._keep_apart()
        return directory

    def refresh(self) -> None:
        """Read the file again. Raises BadDirectory."""
        self._content = _read(self._path)

    @property
    def groups(self) -> frozenset[str]:
        """All groups: those declared and those somebody is in."""
        return frozenset(self._content.groups) | {group for entry in self._content.people for group in entry.person.groups}

    @property
    def declared(self) -> frozenset[str]:
        """The groups that the file lists, whether or not somebody is in them."""
        return frozenset(self._content.groups)

    def people(self) -> tuple[Person, ...]:
        return tuple(entry.person for entry in self._content.people)

    def by_os_user(self, user: str) -> Person | None:
        """Whose account on this machine that is."""
        return next((entry.person for entry in self._content.people if user in entry.person.os_users), None)

    def by_kubernetes_user(self, user: str) -> Person | None:
        """Who clusters know by that name; nobody when two people are said to be."""
        found = [entry.person for entry in self._content.people if entry.person.kubernetes_user == user]
        return found[0] if len(found) == 1 else None

    def find(self, name: str) -> Person | None:
        return next((entry.person for entry in self._content.people if entry.person.name == name), None)

    def add(
        self,
        name: str,
        groups: Iterable[str] = (),
        *,
        tenants: Iterable[str] = ("default",),
        kubernetes_user: str | None = None,
        kubernetes_groups: Iterable[str] = (),
        os_users: Iterable[str] = (),
    ) -> str:
        """Add a person, write the file and return their token, the only time it can be seen.

        Raises BadDirectory for a known name, and for an account on this machine that is somebody else's.
        """
        self.refresh()
        accounts = tuple(os_users)
        for account in accounts:
            other = self.by_os_user(account)
            if other is not None:
                raise BadDirectory(f"The account {account[:60]!r} is {other.name}'s.", next_step="One account stands for one person.")
        if any(entry.person.name.casefold() == name.casefold() for entry in self._content.people):
            raise BadDirectory(f"{name} is in the directory already.", next_step="Remove them first to issue a new token.")
        try:
            person = Person(
                name=name,
                groups=tuple(sorted(set(groups))),
                tenants=tuple(tenants),
                kubernetes_user=kubernetes_user,
                kubernetes_groups=tuple(kubernetes_groups),
                os_users=accounts,
            )
        except ValidationError as error:
            raise BadDirectory(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}: {name[:60]!r}.") from error
        token, salt = f"{TOKEN_PREFIX}_{secrets.token_urlsafe(32)}", secrets.token_hex(16)
        entry = _Entry(person=person, salt=salt, token_hash=_digest(salt, token))
        # A name that was somebody else's before does not bring their authenticator along.
        self._forget(name)
        self._write(self._content.model_copy(update={"people": (*self._content.people, entry)}))
        return token

    def remove(self, name: str) -> None:
        """Remove a person; their approvals stop counting. Raises BadDirectory for an unknown name."""
        self.refresh()
        people = tuple(entry for entry in self._content.people if entry.person.name != name)
        if len(people) == len(self._content.people):
            raise _nobody(name)
        self._write(self._content.model_copy(update={"people": people}))
        self._forget(name)

    def set_groups(self, name: str, groups: Iterable[str]) -> None:
        """Put a person into exactly these groups. Raises BadDirectory for an unknown name."""
        self.refresh()
        if self.find(name) is None:
            raise _nobody(name)
        wanted = tuple(sorted(set(groups)))
        people = tuple(
            entry.model_copy(update={"person": entry.person.model_copy(update={"groups": wanted})}) if entry.person.name == name else entry
            for entry in self._content.people
        )
        self._write(self._content.model_copy(update={"people": people}))

    def enrol(self, name: str) -> str:
        """Give a person a new second secret, in place of the one before, and return it, the only time it can be seen.

        Raises BadDirectory for an unknown name.
        """
        self.refresh()
        if self.find(name) is None:
            raise _nobody(name)
        secret = base64.b32encode(secrets.token_bytes(SECOND_SECRET_BYTES)).decode()
        known = _read_secrets(self._secrets)
        _replace(self._secrets, known.model_copy(update={"secrets": {**known.secrets, name: secret}}))
        return secret

    def step_up_secret(self, name: str) -> str | None:
        """The second secret of a person, None when they have none. Raises BadDirectory."""
        self.refresh()
        return None if self.find(name) is None else _read_secrets(self._secrets).secrets.get(name)

    def authenticate(self, token: str) -> Person:
        """Who holds this token. Every entry is compared, each in constant time. Raises NotAuthenticated."""
        found: Person | None = None
        for entry in self._content.people:
            if hmac.compare_digest(_digest(entry.salt, token), entry.token_hash):
                found = entry.person
        if found is None:
            raise NotAuthenticated("This token belongs to nobody in the directory.", next_step="Ask for one: smokejumper people add NAME.")
        return found

    def _write(self, content: _File) -> None:
        _replace(self._path, content)
        self._content = content

    def _keep_apart(self) -> None:
        """Move secrets that lie among the people, as they once did, to their own file. Raises BadDirectory when others may read that."""
        known = _read_secrets(self._secrets)
        among = {entry.person.name: entry.step_up for entry in self._content.people if entry.step_up is not None}
        if among:
            _replace(self._secrets, known.model_copy(update={"secrets": {**among, **known.secrets}}))
            people = tuple(entry.model_copy(update={"step_up": None}) for entry in self._content.people)
            self._write(self._content.model_copy(update={"people": people}))

    def _forget(self, name: str) -> None:
        """Drop the second secret of a name, whatever its case."""
        known = _read_secrets(self._secrets)
        left = {other: secret for other, secret in known.secrets.items() if other.casefold() != name.casefold()}
        if len(left) != len(known.secrets):
            _replace(self._secrets, known.model_copy(update={"secrets": left}))


def _nobody(name: str) -> BadDirectory:
    return BadDirectory(f"Nobody is called {name[:60]!r}.", next_step="List them: smokejumper people list.")


def _replace(path: Path, content: BaseModel) -> None:
    """Put a file that only its owner can read or write in the place of another. Raises BadDirectory."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made with mode 0600 (tempfile.mkstemp).
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise BadDirectory(f"The directory {path} cannot be written: {error.strerror}.") from error


def _read(path: Path) -> _File:
    try:
        if path.stat().st_mode & 0o022:
            raise BadDirectory(f"Others may write the directory {path}.", next_step=f"chmod 600 {path}")
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise BadDirectory(f"The directory {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise BadDirectory(
            f"The directory {path} is damaged: {error.errors()[0]['msg']}.", next_step="Restore it from a backup."
        ) from error


def _read_secrets(path: Path) -> _Secrets:
    try:
        if path.stat().st_mode & 0o077:
            raise BadDirectory(f"Others may read the secrets of one-time codes in {path}.", next_step=f"chmod 600 {path}")
        return _Secrets.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Secrets()
    except OSError as error:
        raise BadDirectory(f"The secrets of one-time codes {path} cannot be read: {error.strerror}.") from error
    except ValidationError:
        # What is wrong with it would be quoted from a file of secrets.
        raise BadDirectory(
            f"The secrets of one-time codes {path} are damaged.", next_step="Restore them from a backup, or enrol people anew."
        ) from None


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256(f"{salt}:{token}".encode()).hexdigest()
