"""One authenticated connection to an API server: login and its renewal, patience with overload, and what every fault becomes.

The official client is the transport (TLS, proxies, connection pool) and never a model library: its typed lists take some twenty
seconds and a gigabyte for 10,000 pods, and hold the event loop throughout. Responses are raw bytes. What is read is `cluster.kube`'s,
what is written `cluster.write`'s: this module knows no kind.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import ssl
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import anyio
import msgspec
from multidict import CIMultiDict

from cluster.credentials import Impersonation, Login, Target, User, load_identity, log_in
from cluster.errors import ClusterError, CredentialError
from cluster.postponed import postponed
from cluster.proxy import environment_proxy, usable
from cluster.reading import Cost, Why
from cluster.response import Response
from guardrails.redact import present

with postponed("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.client.models", "kubernetes.aio.utils"):
    # First: the module after it asks the package for it by name, which would run the package's body.
    import kubernetes.aio.client.rest  # noqa: F401
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration

JSON = "application/json"
READ_SECONDS = 20.0
ATTEMPTS = 4
RETRY_AFTER_MAX_SECONDS = 10.0
RETRIED = frozenset({429, 500, 502, 503, 504})


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
        self._client = _client(target, login, environment)

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


def _client(target: Target, login: Login, environment: Mapping[str, str]) -> ApiClient:
    server = target.server
    configuration = Configuration(host=server.url, ca_cert_data=server.ca_pem)
    configuration.verify_ssl = server.verify
    # kubectl accepts certificates without an authority key identifier, which older installers made; Python's strict flag does not.
    configuration.disable_strict_ssl_verification = True
    configuration.tls_server_name = server.tls_server_name
    configuration.proxy = usable(server.proxy_url or environment_proxy(server.url, environment), server.url)
    # Else it looks for a proxy and for a password in ~/.netrc before every request, and refuses to send a token where it finds one.
    configuration.client_session_kwargs = {"trust_env": False}
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
