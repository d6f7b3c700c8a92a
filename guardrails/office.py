"""Everything that gate and executor share: the store, the ledger, the bundle in force, the people, the clusters, the clock.

Assembled once, by whoever starts the process. It opens files and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from guardrails.bundle import SHIPPED, Bundles, load
from guardrails.clock import Clock, SystemClock, random_id
from guardrails.directory import Directory
from guardrails.errors import BadBundle, UnknownCluster
from guardrails.estate import Estate
from guardrails.ledger import Ledger
from guardrails.note import Signer
from guardrails.policy import Policy
from guardrails.port import ClusterPort
from guardrails.store import Store

DATABASE = "smokejumper.db"
KEY = "keys/ledger.key"
ANCHOR = "keys/ledger.anchor"
VERIFIER = "keys/ledger.pub"
PEOPLE = "people.json"


class Office(Struct, frozen=True):
    """The shared means. `ports` maps the name of a cluster to the port that reaches it."""

    store: Store
    ledger: Ledger
    bundles: Bundles
    directory: Directory
    ports: Mapping[str, ClusterPort]
    estate: Estate = Estate()
    clock: Clock = SystemClock()
    ids: Callable[[str], str] = random_id

    def port(self, cluster: str) -> ClusterPort:
        """The port of a cluster. Raises UnknownCluster."""
        port = self.ports.get(cluster)
        if port is None:
            raise UnknownCluster(f"No cluster is called {cluster[:80]!r}.", next_step=f"Known: {', '.join(sorted(self.ports)) or 'none'}.")
        return port

    def members(self) -> dict[str, tuple[str, ...]]:
        """The groups of every person now, read from the file. Raises BadDirectory."""
        self.directory.refresh()
        return {person.name: person.groups for person in self.directory.people()}


@asynccontextmanager
async def open_office(
    state: Path,
    ports: Mapping[str, ClusterPort],
    *,
    estate: Estate | None = None,
    bundle: Path = SHIPPED,
    clock: Clock | None = None,
    ids: Callable[[str], str] = random_id,
    key: str | None = None,
    database: str | None = None,
    durable: bool = True,
) -> AsyncIterator[Office]:
    """Open everything in a state folder, closing it at the end. Raises BadStore, BadLedger, BadDirectory, BadBundle.

    The folder holds `smokejumper.db`, `people.json` and `keys/`; a key, its public half and the database are made when absent.
    `key` is the ledger's private key where it comes another way than as a file (`Signer.from_text`); `database` is the URL of a server to
    use instead of a file. Not `durable`: see `Store.open`.
    """
    clock = clock or SystemClock()
    estate = estate or Estate()
    directory = Directory.load(state / PEOPLE)
    signer = Signer.load_or_create(state / KEY) if key is None else Signer.from_text(key)
    publish_verifier(state / VERIFIER, signer)
    store = await Store.open(database or state / DATABASE, durable=durable, tenant=estate.tenant)
    try:
        ledger = Ledger(store, signer, clock, anchor=state / ANCHOR, tenant=estate.tenant, ids=ids)
        policy = await load_policy(ledger, bundle, directory.groups)
        yield Office(store, ledger, Bundles(policy), directory, ports, estate, clock, ids)
    finally:
        await store.close()


async def load_policy(ledger: Ledger, folder: Path, groups: Iterable[str]) -> Policy:
    """The policy of a folder; that it was loaded or refused goes into the ledger, unless it says so last. Raises BadBundle."""
    try:
        policy = load(folder, groups)
    except BadBundle as error:
        await _tell_once(ledger, "policy.refused", {"bundle": folder.name, "why": str(error)[:500]})
        raise
    await _tell_once(ledger, "policy.loaded", {"bundle": folder.name, "sha256": policy.sha256, "rules": len(policy.rules)})
    return policy


async def reload_policy(office: Office, folder: Path) -> Policy:
    """Put the policy of a folder in force; when it is refused, the one in force stays. Both are in the ledger. Raises BadBundle."""
    policy = await load_policy(office.ledger, folder, office.directory.groups)
    office.bundles.put(policy)
    return policy


async def _tell_once(ledger: Ledger, kind: str, body: dict[str, Any]) -> None:
    last = await ledger.last("policy.")
    if last is None or (last.type, last.body) != (kind, body):
        async with ledger.transaction() as writing:
            await writing.append(kind, None, body)


def publish_verifier(path: Path, signer: Signer) -> None:
    """Write the public key beside the private one, for people to copy somewhere else and pin."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(f"{signer.verifier.text}\n", encoding="utf-8")
