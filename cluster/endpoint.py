"""One address of a monitoring system, and bounded requests to it: whatever goes wrong is an answer that says so, never an exception.

Prometheus and Alertmanager share it. The token goes into a header and nowhere else; the address is shown without user and password.
It retries nothing: who waits for a diagnosis would rather read what is missing.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
import msgspec
from msgspec import Struct

from cluster.egress import GuardedTransport, RefusedAddressError
from cluster.errors import MonitoringError
from cluster.reading import Cost, Missing, Why
from guardrails.redact import present

RESPONSE_BYTES = 32 * 1024 * 1024
DETAIL_LIMIT = 300
# Longer parameters do not fit into the address that proxies accept.
ADDRESS_BYTES = 2_000
# Beyond the client's own timeouts, which begin anew with every chunk.
GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and as whom. `tenant` goes into the header X-Scope-OrgID (Mimir, Cortex); user and password may stand in `url`."""

    url: str = field(repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    tenant: str | None = None
    timeout_seconds: float = 10.0

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return str(httpx2.URL(self.url).copy_with(userinfo=b""))


class Answer(Struct):
    """Either `body`, or the `why` and `detail` of having none."""

    body: bytes = b""
    why: Why | None = None
    detail: str = ""
    next_step: str = ""
    cost: Cost = Cost(requests=1)

    def missing(self, what: str) -> Missing:
        return Missing(what, self.why or Why.MALFORMED, present(self.detail, DETAIL_LIMIT), self.next_step)


class _Refusal(Struct):
    """How Prometheus words an error (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

    error_type: str = msgspec.field(default="", name="errorType")
    error: str = ""


class EndpointClient:
    """Requests to one endpoint. `product` is what should answer there. Raises MonitoringError where the endpoint cannot be used at all."""

    def __init__(self, endpoint: Endpoint, product: str) -> None:
        self.endpoint = endpoint
        self._product = product
        self._where = _where(endpoint, product)
        self._http = _http(endpoint, product)

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """The body of a success. Parameters that are too long for an address are posted as a form."""
        url = f"{self.endpoint.url.rstrip('/')}/{path}"
        form = sum(map(len, parameters.values())) > ADDRESS_BYTES
        body = bytearray()
        try:
            with anyio.fail_after(self.endpoint.timeout_seconds + GRACE_SECONDS):
                request = self._http.build_request(
                    "POST" if form else "GET", url, data=dict(parameters) if form else None, params=None if form else dict(parameters)
                )
                response = await self._http.send(request, stream=True)
                try:
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > RESPONSE_BYTES:
                            return self._too_long(len(body))
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException):
            detail = f"{self._where} gave no answer within {self.endpoint.timeout_seconds:g} s"
            return Answer(why=Why.TIMEOUT, detail=detail, next_step=f"Look at the load of {self._product}, or try a shorter time.")
        except RefusedAddressError as error:
            return Answer(why=Why.FORBIDDEN, detail=f"not asked: {error}", next_step=f"Configure the address of {_article(self._product)}.")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            step = f"Check the address of {self._product}, that it is up, and that it can be reached from here."
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                step = "Set monitoring.ca_file to the authority of its certificate."
            return Answer(why=Why.UNREACHABLE, detail=f"{self._where}: {error or type(error).__name__}", next_step=step)
        cost = Cost(1, len(body))
        return Answer(bytes(body), cost=cost) if response.status_code == 200 else self._refused(response.status_code, bytes(body), cost)

    def unexpected(self, answer: Answer) -> Answer:
        """An answer whose body is not what this product says: a login page, another program."""
        said = _words(answer.body)
        detail = f"{self._where} answered {'with a web page' if said.startswith('<') else f'something else: {said}'}"
        step = f"Check that this is the address of {_article(self._product)}, and that no login stands before it."
        return Answer(why=Why.UNREACHABLE, detail=detail, next_step=step, cost=answer.cost)

    def _too_long(self, length: int) -> Answer:
        detail = f"the answer is longer than {RESPONSE_BYTES // 1024 // 1024} MiB"
        step = "Ask about one namespace or object, or a shorter time."
        return Answer(why=Why.TRUNCATED, detail=detail, next_step=step, cost=Cost(1, length))

    def _refused(self, status: int, body: bytes, cost: Cost) -> Answer:
        try:
            refusal = msgspec.json.decode(body, type=_Refusal)
        except msgspec.MsgspecError:
            refusal = _Refusal()
        said = refusal.error or _words(body) or f"HTTP {status}"
        why, step = self._meaning(status, refusal.error_type)
        if said.startswith("<"):
            said = f"HTTP {status} and a web page"
        return Answer(why=why, detail=f"{self._where} says: {said}", next_step=step, cost=cost)

    def _meaning(self, status: int, kind: str) -> tuple[Why, str]:
        match status, kind:
            case 401, _:
                return Why.UNAUTHENTICATED, "Set SMOKEJUMPER_MONITORING__BEARER_TOKEN to a token that it accepts."
            case 403, _:
                return Why.FORBIDDEN, "Let this account read there, or set monitoring.tenant where tenants are told apart."
            case (408 | 429 | 504, _) | (_, "timeout" | "canceled"):
                return Why.TIMEOUT, f"Look at the load of {self._product}, or ask about one namespace or a shorter time."
            case (400 | 422, _):
                return Why.MALFORMED, "The query was refused; correct it, or ask for less."
            case 404, _:
                return Why.UNREACHABLE, f"There is no {self._product} API at this address; a path such as /prometheus may lack."
            case code, _ if 300 <= code < 400:
                return Why.UNREACHABLE, "It redirects elsewhere, which is not followed; configure the address that it points to."
        return Why.UNREACHABLE, f"Check the address of {self._product}, and that it is up."


def _where(endpoint: Endpoint, product: str) -> str:
    """The address for people. Raises MonitoringError for one that cannot be read."""
    try:
        return endpoint.shown
    except httpx2.InvalidURL as error:
        raise MonitoringError(
            f"the address of {product} cannot be read ({error}); give one like https://monitoring.example:9090"
        ) from error


def _http(endpoint: Endpoint, product: str) -> httpx2.AsyncClient:
    url = httpx2.URL(endpoint.url)
    if url.scheme not in ("http", "https") or not url.host:
        raise MonitoringError(f"{endpoint.shown!r} is no address of {_article(product)}; give one like https://monitoring.example:9090")
    try:
        verify = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
    except OSError as error:
        raise MonitoringError(f"cannot read the certificate authority {endpoint.ca_file}: {error}. Correct monitoring.ca_file.") from error
    headers = {"Accept": "application/json"}
    if endpoint.bearer_token:
        headers["Authorization"] = f"Bearer {endpoint.bearer_token}"
    if endpoint.tenant:
        headers["X-Scope-OrgID"] = endpoint.tenant
    # Proxies of the environment are left aside: they would resolve the name again, and the address that was judged would not count.
    beneath = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)
    return httpx2.AsyncClient(
        transport=GuardedTransport(beneath), headers=headers, timeout=endpoint.timeout_seconds, trust_env=False, follow_redirects=False
    )


def _article(product: str) -> str:
    return f"{'an' if product[0] in 'AEIOU' else 'a'} {product}"


def _words(body: bytes) -> str:
    return " ".join(body[: 2 * DETAIL_LIMIT].decode("utf-8", "replace").split())
