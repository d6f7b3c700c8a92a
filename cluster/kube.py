"""The live cluster: one authenticated connection, and the one function that every read of Kubernetes goes through.

The official client is the transport (TLS, proxies, connection pool) and never a model library: its typed lists take some twenty
seconds and a gigabyte for 10,000 pods, and hold the event loop throughout. Responses are raw bytes, decoded by `cluster.pages`.
This module writes nothing except through `Connection.request` in the hands of `cluster.write`, reads no Secret, and follows no
watch: an investigation lists what it needs. Over 400 lines because the connection and its only reader argue about one thing,
what to do when a read fails.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import json
import ssl
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import anyio
import msgspec
from multidict import CIMultiDict

from cluster.credentials import Impersonation, Login, Target, User, load_identity, log_in
from cluster.discovery import ACCEPT as DISCOVERY_ACCEPT
from cluster.discovery import PATH as DISCOVERY_PATH
from cluster.discovery import Catalogue, decode_catalogue
from cluster.errors import ClusterError, CredentialError, RefusedReadError
from cluster.facts.event import CustomObject
from cluster.facts.meta import Fact
from cluster.kinds import BY_NAME, Kind, find_kind
from cluster.logtext import plan_tail, shape_log
from cluster.pages import Named, Page, decode_items, decode_page, fact_decoder, metadata_decoder
from cluster.postponed import postponed
from cluster.rawobject import tidy
from cluster.reading import Cost, LogText, MetricQuery, Missing, Reading, Series, Why
from cluster.reference import ContainerRef, ObjectRef, Scope, Window
from cluster.response import Response, absent, decode_status, explain, malformed, rest_of
from cluster.telemetry import Telemetry
from guardrails.redact import present

with postponed("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.client.models", "kubernetes.aio.utils"):
    # First: the module after it asks the package for it by name, which would run the package's body.
    import kubernetes.aio.client.rest  # noqa: F401
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration

if TYPE_CHECKING:
    from cluster.monitoring import Monitoring

JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE_SIZE = 500
OBJECTS_LIMIT = 100_000
READ_SECONDS = 20.0
ATTEMPTS = 4
RETRY_AFTER_MAX_SECONDS = 10.0
CONCURRENT_NAMESPACES = 8
RESTARTS = 2
RETRIED = frozenset({429, 500, 502, 503, 504})

T = TypeVar("T")


class Connection:
    """One API server and the credential that opens it. Opened by `Fleet.connect`; close it, or use it in `async with`."""

    def __init__(
        self,
        target: Target,
        environment: Mapping[str, str],
        clock: Callable[[], datetime],
        login: Login,
        configured: Callable[[], Target] | None = None,
    ) -> None:
        self.cluster = target.context
        self.namespace = target.namespace
        self.clock = clock
        self._target = target
        self._environment = environment
        self._login = login
        self._configured = configured
        self._logging_in = asyncio.Lock()
        self._client = _client(target, login)

    @classmethod
    async def open(
        cls,
        target: Target,
        environment: Mapping[str, str],
        clock: Callable[[], datetime],
        impersonate: Impersonation | None = None,
        configured: Callable[[], Target] | None = None,
    ) -> Connection:
        """Log in and prepare the transport. Raises CredentialError; nothing is sent to the API server yet.

        `configured` reads the configuration again when the server refuses the credential, which may have been replaced meanwhile.
        """
        if impersonate is not None:
            target = msgspec.structs.replace(target, impersonate=impersonate)
        return cls(target, environment, clock, await log_in(target, clock(), environment), configured)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: str = JSON,
        seconds: float = READ_SECONDS,
        most_bytes: int | None = None,
    ) -> Response:
        """A GET, tried again on overload, on a server error that says when to come back, and once after a fresh login on 401.

        At most `ATTEMPTS` requests of `seconds` each. `cost` counts all of them. A login that cannot be renewed is a value too. A body
        is cut after `most_bytes`, and no more of it is taken off the wire.
        """
        cost, refreshed = Cost(), False
        for attempt in range(ATTEMPTS):
            used = self._login
            try:
                response = await self.request("GET", path, query, accept=accept, seconds=seconds, most_bytes=most_bytes)
                cost += response.cost
                if response.status == 401 and not refreshed and await self._renew(used):
                    refreshed = True
                    continue
            except CredentialError as error:
                return Response(0, why=Why.UNAUTHENTICATED, detail=str(error), sent=False, cost=cost)
            wait_seconds = _pause(response, attempt)
            if wait_seconds is None or attempt == ATTEMPTS - 1:
                break
            await anyio.sleep(wait_seconds)
        return msgspec.structs.replace(response, cost=cost)

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: str = JSON,
        body: Any = None,
        content_type: str = JSON,
        seconds: float = READ_SECONDS,
        most_bytes: int | None = None,
    ) -> Response:
        """Exactly one request, never repeated. Network faults are values; CredentialError when a stale login cannot be renewed."""
        if self._login.stale_at is not None and self.clock() + timedelta(seconds=5) >= self._login.stale_at:
            await self._renew(self._login)
        address = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        wanted = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": content_type}
        _, url, headers, payload, _ = await self._client.param_serialize(method, address, header_params=wanted, body=body)
        limits = aiohttp.ClientTimeout(total=seconds, connect=min(seconds, 10.0))
        try:
            answer = await self._client.call_api(method, url, self._headers(headers), payload, _request_timeout=limits)
            content = await _content(answer.response, most_bytes)
        except aiohttp.ConnectionTimeoutError:
            return Response(0, why=Why.TIMEOUT, detail="no connection", sent=False, cost=Cost(1, 0))
        except TimeoutError:
            return Response(0, why=Why.TIMEOUT, detail=f"no answer within {seconds:g} s", cost=Cost(1, 0))
        except aiohttp.ClientConnectorError as error:
            detail = present(str(error.os_error or error), 200)
            return Response(0, why=Why.UNREACHABLE, detail=detail, sent=False, cost=Cost(1, 0))
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            return Response(0, why=Why.UNREACHABLE, detail=present(str(error) or type(error).__name__, 200), cost=Cost(1, 0))
        headers_back = answer.headers
        return Response(
            answer.status, content, headers_back.get("Audit-Id"), headers_back.get("Retry-After", ""), cost=Cost(1, len(content))
        )

    def _headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        complete = CIMultiDict(headers)
        if not self._target.server.compress:
            complete["Accept-Encoding"] = "identity"
        if self._login.authorization:
            complete["Authorization"] = self._login.authorization
        identity = self._target.impersonate
        if identity is not None:
            complete["Impersonate-User"] = identity.user
            for group in identity.groups:
                complete.add("Impersonate-Group", group)
            if identity.uid:
                complete["Impersonate-Uid"] = identity.uid
        return complete

    @property
    def impersonating(self) -> bool:
        """Whether requests are made as somebody else."""
        return self._target.impersonate is not None

    async def _renew(self, stale: Login) -> bool:
        """Log in again, unless somebody else has meanwhile; False where nothing could give another login. Raises CredentialError."""
        async with self._logging_in:
            if self._login is not stale:
                return True
            user, before = self._user_by_now(), self._target.user
            # A plugin or a file gives another token the next time; what stands in the configuration itself does not.
            if user is None or (user == before and user.plugin is None and user.token_file is None):
                return False
            self._target = msgspec.structs.replace(self._target, user=user)
            self._login = await log_in(self._target, self.clock(), self._environment)
            with tempfile.TemporaryDirectory(prefix="smokejumper-") as folder:
                load_identity(self._client.rest_client.ssl_context, self._login, Path(folder))
            return True

    def _user_by_now(self) -> User | None:
        """Whom the configuration names by now. CredentialError when it cannot be read, or when the context has come to mean another
        server: what was opened for one cluster never reads another."""
        if self._configured is None:
            return self._target.user
        try:
            found = self._configured()
        except ClusterError as error:
            raise CredentialError(f"the credential has to be renewed, and the configuration gives none: {error}") from error
        if found.server.url != self._target.server.url:
            raise CredentialError(
                f"the credential has to be renewed, and context {self.cluster!r} means {found.server.url} by now. Start again."
            )
        return found.user


async def _content(response: aiohttp.ClientResponse, most_bytes: int | None) -> bytes:
    if most_bytes is None:
        return await response.read()
    taken = bytearray()
    async for piece in response.content.iter_any():
        taken += piece
        if len(taken) > most_bytes:
            # The connection cannot be used again without the rest, which may never end.
            response.close()
            break
    return bytes(taken[:most_bytes])


def _client(target: Target, login: Login) -> ApiClient:
    server = target.server
    configuration = Configuration(host=server.url, ca_cert_data=server.ca_pem)
    configuration.verify_ssl = server.verify
    # kubectl accepts certificates without an authority key identifier, which older installers made; Python's strict flag does not.
    configuration.disable_strict_ssl_verification = True
    configuration.tls_server_name = server.tls_server_name
    configuration.proxy = server.proxy_url
    client = ApiClient(configuration)
    client.user_agent = f"smokejumper/{importlib.metadata.version('smokejumper')}"
    with tempfile.TemporaryDirectory(prefix="smokejumper-") as folder:
        load_identity(client.rest_client.ssl_context, login, Path(folder))
    return client


def _pause(response: Response, attempt: int) -> float | None:
    """Seconds to wait before trying again; None when it is no use, or when the server asks for more patience than we have."""
    if response.status == 0:
        # A refused connection is refused for good within our time; a connection that broke may be a server that restarts.
        return 0.2 * 2**attempt if response.why is Why.UNREACHABLE and response.sent else None
    if response.status not in RETRIED:
        return None
    if response.retry_after.isdigit():
        seconds = float(response.retry_after)
        return seconds if seconds <= RETRY_AFTER_MAX_SECONDS else None
    # A kubelet that cannot be reached is a 500 without Retry-After: it says so again when asked again.
    return None if response.status == 500 else 0.2 * 2**attempt


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
        except ValueError as error:
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
        where = f" in {namespace}" if namespace and kind.namespaced else ""
        for one in served:
            response = await self._connection.get(one.address(namespace), {"limit": "1"}, seconds=self._seconds)
            if not response.ok:
                return explain(response, f"{kind.plural}{where}", verb="list", kind=one, namespace=namespace)
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
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
