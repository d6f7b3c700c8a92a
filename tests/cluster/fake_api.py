"""An HTTP server on loopback that answers as an API server would, and fails on request: the faults a healthy server gives to nobody.

A real socket and the client's real transport. A route answers from a list of replies, the last of which repeats.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cluster.connection import Connection
from cluster.credentials import Impersonation, Login, Server, Target, User

# A multiple of this is what an endless reply has.
ENDLESS_PIECE = 65_536
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Reply:
    """One response. `cut_after` closes the connection after that many bytes of the body; `silent` never answers; `after` keeps it back
    until the event is set; `endless` bytes follow the body for as long as somebody reads them."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    silent: bool = False
    after: asyncio.Event | None = None
    endless: int = 0


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


Route = Callable[[Seen], Reply]


class FakeApi:
    """`routes` by path; `requests` is what arrived. Paths without a route are 404, discovery serves what `groups` lists."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[Seen] = []
        self.url = ""
        self.server: asyncio.Server | None = None
        self.open: set[asyncio.StreamWriter] = set()
        self.endless_sent = 0

    def reply(self, path: str, *replies: Reply) -> None:
        left = list(replies)
        self.routes[path] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def objects(self, path: str, kind: str, items: list[dict[str, Any]]) -> None:
        self.reply(path, listing(kind, items))

    async def start(self, port: int = 0) -> None:
        """Listen, on the port of an earlier life where it is given."""
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def stop(self) -> None:
        """Die: connections end and no new one is taken."""
        assert self.server is not None
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()
        # The loop's turns: to close here, to see it at the other end, which is in this loop too, and to act on it there.
        for _ in range(3):
            await asyncio.sleep(0)

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers: list[tuple[str, str]] = []
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers.append((name.lower(), value.strip()))
                length = int(next((value for name, value in headers if name == "content-length"), "0"))
                parts = urlsplit(target)
                query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
                seen = Seen(method, parts.path, query, headers, await reader.readexactly(length))
                self.requests.append(seen)
                route = self.routes.get(seen.path)
                reply = route(seen) if route else status(404, "NotFound", "the server could not find the requested resource")
                if reply.silent:
                    await reader.read()
                    return
                if reply.after is not None and await _hung_up(reader, reply.after):
                    return
                extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
                length = len(reply.body) + reply.endless
                head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
                writer.write(head.encode() + reply.body[: reply.cut_after])
                await writer.drain()
                for _ in range(reply.endless // ENDLESS_PIECE):
                    writer.write(b"x" * ENDLESS_PIECE)
                    await writer.drain()
                    self.endless_sent += ENDLESS_PIECE
                if reply.cut_after is not None:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open.discard(writer)
            writer.close()


async def _hung_up(reader: asyncio.StreamReader, after: asyncio.Event) -> bool:
    """Whether the other side closed the connection before the event was set."""
    gone, told = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(after.wait())
    try:
        await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
        return not told.done()
    finally:
        gone.cancel()
        told.cancel()
        # The stream takes no second reader while the first is still leaving.
        await asyncio.wait({gone, told})


def document(body: Any, code: int = 200, **headers: str) -> Reply:
    return Reply(code, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def status(code: int, reason: str, message: str, *, token: str | None = None, retry_after: str | None = None) -> Reply:
    """A metav1.Status, as the API server sends with every refusal."""
    metadata = {"continue": token} if token else {}
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": metadata,
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return Reply(code, json.dumps(body).encode(), {"Retry-After": retry_after} if retry_after is not None else {})


def listing(kind: str, items: list[dict[str, Any]], token: str = "") -> Reply:
    return document({"kind": f"{kind}List", "apiVersion": "v1", "metadata": {"continue": token} if token else {}, "items": items})


def pod(name: str, namespace: str = "ml", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.com/app:1"}]
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"}, "spec": {"containers": containers, **spec}}


def groups(**served: dict[str, list[str]]) -> Reply:
    """Aggregated discovery: group (dots as underscores) to version to plurals."""
    items = [
        {
            "metadata": {"name": name.replace("_", ".")},
            "versions": [
                {
                    "version": version,
                    "resources": [_resource(plural) for plural in plurals],
                }
                for version, plurals in versions.items()
            ],
        }
        for name, versions in served.items()
    ]
    return document({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items})


def _resource(plural: str) -> dict[str, Any]:
    return {"resource": plural, "scope": "Namespaced", "responseKind": {"kind": plural.title()}}


@asynccontextmanager
async def running() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    api.reply("/apis", groups())
    try:
        yield api
    finally:
        assert api.server is not None
        api.server.close()


def target(api: FakeApi, *, user: User | None = None, impersonate: Impersonation | None = None) -> Target:
    return Target("test", Server(api.url), user, None, impersonate)


def connection(api: FakeApi, *, impersonate: Impersonation | None = None) -> Connection:
    """A connection that is already logged in with a token."""
    return Connection(target(api, impersonate=impersonate), {}, lambda: NOW, Login("Bearer sesame"))
