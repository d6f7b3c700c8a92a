"""The live cluster: the one function that every read of Kubernetes goes through.

Responses are raw bytes, decoded by `cluster.pages`. This module writes nothing, reads no Secret, and follows no watch: an investigation
lists what it needs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
import msgspec

from cluster.connection import JSON, READ_SECONDS, Connection
from cluster.discovery import ACCEPT as DISCOVERY_ACCEPT
from cluster.discovery import PATH as DISCOVERY_PATH
from cluster.discovery import Catalogue, decode_catalogue
from cluster.errors import RefusedReadError
from cluster.facts.event import CustomObject
from cluster.facts.meta import Fact
from cluster.kinds import BY_NAME, Kind, find_kind
from cluster.logtext import plan_tail, shape_log
from cluster.pages import Named, Page, decode_items, decode_page, fact_decoder, metadata_decoder
from cluster.rawobject import tidy
from cluster.reading import Cost, LogText, MetricQuery, Missing, Reading, Series, Why
from cluster.reference import ContainerRef, ObjectRef, Scope, Window
from cluster.response import Response, absent, decode_status, explain, malformed, rest_of
from cluster.telemetry import Telemetry
from guardrails.redact import present

if TYPE_CHECKING:
    from cluster.monitoring import Monitoring

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE_SIZE = 500
OBJECTS_LIMIT = 100_000
CONCURRENT_NAMESPACES = 8
RESTARTS = 2

T = TypeVar("T")


class KubeReader:
    """`cluster.reading.Reader` over a live API server."""

    def __init__(
        self,
        connection: Connection,
        *,
        page_size: int = PAGE_SIZE,
        seconds: float = READ_SECONDS,
        unread: frozenset[str] = frozenset(),
        monitoring: Monitoring | None = None,
    ) -> None:
        """`unread` are kinds that the operator does not want to be read; nobody is asked for them. `monitoring` stays its maker's to
        close."""
        self.cluster = connection.cluster
        self._monitoring = monitoring
        self._unread = unread
        self._connection = connection
        self._page_size = page_size
        self._seconds = seconds
        self._catalogue: Catalogue | None = None
        self._discovering = asyncio.Lock()

    async def __aenter__(self) -> KubeReader:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection too."""
        await self._connection.close()

    def now(self) -> datetime:
        return self._connection.clock()

    async def objects(self, kind: Kind, scope: Scope, name: str | None = None) -> Reading[tuple[Fact, ...]]:
        """All objects of a kind in the scope's namespaces, or the one called `name`; an empty value without `missing` proves absence."""
        return await self._sweep(kind, scope, name, JSON, fact_decoder(kind))

    async def names(self, kind: Kind, scope: Scope) -> Reading[tuple[ObjectRef, ...]]:
        """Only which objects exist (metadata of each, a tenth of the bytes)."""
        reading = await self._sweep(kind, scope, None, METADATA_LIST, metadata_decoder())
        return Reading(tuple(_named(kind, item) for item in reading.value), reading.missing, reading.cost)

    async def documents(self, kind: Kind, scope: Scope) -> Reading[tuple[dict[str, Any], ...]]:
        """All objects of a kind, whole except for managedFields and the last-applied copy. For recordings; facts are for diagnosis."""
        homes = await self._homes(kind)
        typed = {"apiVersion": homes[0].api_version, "kind": kind.name}
        reading = await self._sweep(kind, scope, None, JSON, msgspec.json.Decoder(dict[str, Any]).decode)
        return Reading(tuple(tidy(typed | item) for item in reading.value), reading.missing, reading.cost)

    async def find_kind(self, word: str) -> Kind | None:
        """The kind a person means, also one that only this server knows; its objects are `CustomObject`s. Never Secret."""
        known = find_kind(word)
        if known is not None or word.lower() in {"secret", "secrets"}:
            return known
        catalogue, _ = await self._served()
        return catalogue.find(word)

    async def raw(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | Missing:
        """One whole object as the API gives it, without managedFields and the last-applied copy. RefusedReadError for a Secret."""
        if kind.plural == "secrets" and not kind.group:
            raise RefusedReadError(f"Smokejumper reads no Secrets, not even {namespace}/{name}. Ask somebody who may.")
        if kind.name in self._unread:
            return _switched_off(kind)
        for one in await self._homes(kind):
            response = await self._connection.get(one.address(namespace, name), seconds=self._seconds)
            if response.status != 404:
                break
        if not response.ok:
            return explain(response, f"{kind.name} {_dotted(namespace, name)}", verb="get", kind=kind, namespace=namespace)
        try:
            document = json.loads(response.body)
        except (ValueError, RecursionError) as error:
            return Missing(f"{kind.name} {_dotted(namespace, name)}", Why.MALFORMED, str(error), kind=kind.name, namespace=namespace)
        return tidy(document)

    async def logs(self, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None = None) -> Reading[LogText]:
        """The tail of a container's log, redacted, at most `limit_bytes`.

        The API cuts a log that is over its byte limit at the end, which is the part that matters, so too long a tail is asked for
        again with fewer lines.
        """
        what = f"{'previous ' if previous else ''}log of {container}"
        path = f"/api/v1/namespaces/{quote(container.namespace)}/pods/{quote(container.pod)}/log"
        cost = Cost()
        for lines, byte_limit in plan_tail(limit_bytes):
            query = {"container": container.container, "tailLines": str(lines), "limitBytes": str(byte_limit)}
            if previous:
                query["previous"] = "true"
            if since is not None:
                query["sinceTime"] = since.isoformat().replace("+00:00", "Z")
            response = await self._connection.get(path, query, accept="*/*", seconds=self._seconds, most_bytes=byte_limit)
            cost += response.cost
            if not response.ok:
                gone = await self._gone(response, container, previous=previous, limit_bytes=limit_bytes, since=since)
                if gone is not None and not gone.missing:
                    return Reading(gone.value, (), cost + gone.cost)
                gaps = (self._no_log(response, what, container), *(gone.missing if gone is not None else ()))
                return Reading(LogText(), gaps, cost + (gone.cost if gone is not None else Cost()))
            if len(response.body) < byte_limit:
                break
        return Reading(shape_log(response.body, limit_bytes, lines_asked=lines, whole=len(response.body) < byte_limit), (), cost)

    async def _gone(
        self, refused: Response, container: ContainerRef, *, previous: bool, limit_bytes: int, since: datetime | None
    ) -> Reading[LogText] | None:
        """What Loki kept where the kubelet has it no more or does not answer; None where nobody keeps it, or where we may not read it.

        A container that waits to start has no log of its own, and what its pod's name wrote earlier is another pod's.
        """
        loki = self._monitoring.loki if self._monitoring is not None else None
        if loki is None or refused.status in (401, 403) or (refused.status == 400 and not previous):
            return None
        return await loki.logs(container, self.now(), previous=previous, limit_bytes=limit_bytes, since=since)

    async def metric(self, query: MetricQuery, window: Window) -> Reading[tuple[Series, ...]]:
        if self._monitoring is not None:
            return await self._monitoring.metric(query, window)
        step = "Configure a Prometheus for this cluster (--prometheus URL)."
        return Reading((), (Missing(f"metric {query.name}", Why.NO_SOURCE, "no metric source is configured", step),))

    async def telemetry(self, scope: Scope) -> Reading[Telemetry]:
        if self._monitoring is not None:
            return await self._monitoring.telemetry(scope, self.now())
        step = "Configure a Prometheus for this cluster (--prometheus URL)."
        return Reading(Telemetry(), (Missing("alerts and measurements", Why.NO_SOURCE, "no alert source is configured", step),))

    async def version(self) -> Reading[str]:
        """The server's version, the cheapest proof that it answers and takes our credential."""
        response = await self._connection.get("/version", seconds=self._seconds)
        if not response.ok:
            return Reading("", (explain(response, "version of the API server", verb="get"),), response.cost)
        try:
            return Reading(str(json.loads(response.body)["gitVersion"]), (), response.cost)
        except (ValueError, KeyError, TypeError) as error:
            return Reading("", (Missing("version of the API server", Why.MALFORMED, str(error)),), response.cost)

    async def glance(self, kind: Kind, namespace: str | None = None) -> Missing | None:
        """Whether the kind may be listed there: one object is asked for. None when it may; absent kinds say so without a request."""
        catalogue, _ = await self._served()
        served = catalogue.served(kind)
        if not served:
            return absent(kind, catalogue)
        inside = namespace if kind.namespaced else None
        what = f"{kind.plural} in {inside}" if inside else kind.plural
        for one in served:
            response = await self._connection.get(one.address(inside), {"limit": "1"}, seconds=self._seconds)
            if not response.ok:
                return explain(response, what, verb="list", kind=one, namespace=inside)
        return None

    async def _sweep(
        self, kind: Kind, scope: Scope, name: str | None, accept: str, decode: Callable[[bytes | msgspec.Raw], T]
    ) -> Reading[tuple[T, ...]]:
        if kind.plural == "secrets" and not kind.group:
            raise RefusedReadError("Smokejumper reads no Secrets. Ask somebody who may.")
        if kind.name in self._unread:
            return Reading((), (_switched_off(kind),))
        catalogue, cost = await self._served()
        served = catalogue.served(kind)
        if not served:
            return Reading((), (absent(kind, catalogue),), cost)
        parts: list[Reading[tuple[T, ...]]] = []
        namespaces: tuple[str | None, ...] = scope.namespaces if kind.namespaced and scope.namespaces else (None,)
        limiter = anyio.CapacityLimiter(CONCURRENT_NAMESPACES)
        gathered: dict[int, Reading[tuple[T, ...]]] = {}

        async def read(index: int, one: Kind, namespace: str | None) -> None:
            async with limiter:
                if name is not None and (namespace is not None or not kind.namespaced):
                    gathered[index] = await self._one(one, namespace, name, decode)
                else:
                    gathered[index] = await self._list(one, namespace, name, accept, decode)

        async with anyio.create_task_group() as tasks:
            for index, (one, namespace) in enumerate(itertools.product(served, dict.fromkeys(namespaces))):
                tasks.start_soon(read, index, one, namespace)
        parts = [gathered[index] for index in sorted(gathered)]
        for part in parts:
            cost += part.cost
        return Reading(tuple(item for part in parts for item in part.value), tuple(m for part in parts for m in part.missing), cost)

    async def _one(
        self, kind: Kind, namespace: str | None, name: str, decode: Callable[[bytes | msgspec.Raw], T]
    ) -> Reading[tuple[T, ...]]:
        response = await self._connection.get(kind.address(namespace, name), seconds=self._seconds)
        what = f"{kind.name} {_dotted(namespace, name)}"
        if response.status == 404:
            return Reading((), (), response.cost)
        if not response.ok:
            return Reading((), (explain(response, what, verb="get", kind=kind, namespace=namespace),), response.cost)
        try:
            return Reading((decode(response.body),), (), response.cost)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Reading((), (Missing(what, Why.MALFORMED, str(error), kind=kind.name, namespace=namespace),), response.cost)

    async def _list(
        self, kind: Kind, namespace: str | None, name: str | None, accept: str, decode: Callable[[bytes | msgspec.Raw], T]
    ) -> Reading[tuple[T, ...]]:
        """Every page of one list. What was read before a page failed is kept, and the failure says that the rest is missing."""
        what = f"{kind.plural} in {namespace}" if namespace else kind.plural
        path = kind.address(namespace)
        items: list[T] = []
        complaints: list[str] = []

        async def ask(token: str) -> Response:
            query = {"limit": str(self._page_size)}
            if token:
                query["continue"] = token
            if name is not None:
                query["fieldSelector"] = f"metadata.name={name}"
            return await self._connection.get(path, query, accept=accept, seconds=self._seconds)

        cost, token, restarts, failure = Cost(), "", 0, None
        # The next page travels while this one is decoded; two are in memory at most.
        coming: asyncio.Task[Response] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                response = await (coming or ask(token))
                coming = None
                cost += response.cost
                if response.status == 410 and token and restarts < RESTARTS:
                    # The token's snapshot was compacted away. The server offers one that goes on from the same key in a newer
                    # snapshot (kubernetes.io/docs/reference/using-api/api-concepts, "410 Gone"); without it only a fresh start is left.
                    restarts += 1
                    token = decode_status(response.body).metadata.continue_ or ""
                    if not token:
                        items.clear()
                        complaints.clear()
                    continue
                if not response.ok:
                    failure = explain(response, what, verb="list", kind=kind, namespace=namespace)
                    break
                try:
                    page: Page = decode_page(response.body)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    failure = Missing(
                        what, Why.MALFORMED, f"not a list: {error}", "Look for a proxy that cuts responses.", kind.name, namespace
                    )
                    break
                token = page.metadata.continue_
                if token and len(items) + len(page.items or ()) < OBJECTS_LIMIT:
                    coming = tasks.create_task(ask(token))
                decoded, bad = await decode_items(page.items or (), decode)
                items += decoded
                complaints += bad
                if not token:
                    break
                if coming is None:
                    failure = Missing(what, Why.TRUNCATED, f"stopped after {len(items)}", "Name namespaces.", kind.name, namespace)
                    break
        return Reading(tuple(items), (*rest_of(failure, len(items)), *malformed(complaints, what, kind, namespace)), cost)

    async def _homes(self, kind: Kind) -> tuple[Kind, ...]:
        """Where objects of a kind may be; the place of a built-in kind of one version needs no discovery."""
        if kind.fact is not CustomObject and not kind.earlier:
            return (kind,)
        catalogue, _ = await self._served()
        return catalogue.served(kind) or (kind,)

    async def _served(self) -> tuple[Catalogue, Cost]:
        """The catalogue, fetched once in the reader's life; its cost is charged to whoever caused the fetch."""
        async with self._discovering:
            if self._catalogue is not None:
                return self._catalogue, Cost()
            response = await self._connection.get(DISCOVERY_PATH, accept=DISCOVERY_ACCEPT, seconds=self._seconds)
            catalogue = Catalogue()
            if response.ok:
                try:
                    catalogue = decode_catalogue(response.body)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # An unreadable document is as good as none: every kind is then asked for and says itself whether it exists.
                    catalogue = Catalogue()
            if response.status:
                self._catalogue = catalogue
            return catalogue, response.cost

    def _no_log(self, response: Response, what: str, container: ContainerRef) -> Missing:
        if response.status == 400:
            # "container … is waiting to start", "previous terminated container … not found": nothing to see is an answer.
            said = present(decode_status(response.body).message, 200)
            return Missing(what, Why.NOT_FOUND, said, kind="Pod", namespace=container.namespace)
        rule = f"get on pods/log in namespace {container.namespace}"
        return explain(response, what, verb="get", kind=BY_NAME["Pod"], namespace=container.namespace, rule=rule)


def _switched_off(kind: Kind) -> Missing:
    return Missing(kind.plural, Why.NO_SOURCE, "reading them is switched off", "Set read_configmaps to read them.", kind=kind.name)


def _named(kind: Kind, item: Named) -> ObjectRef:
    return ObjectRef(kind.name, item.metadata.namespace, item.metadata.name, item.metadata.uid)


def _dotted(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
