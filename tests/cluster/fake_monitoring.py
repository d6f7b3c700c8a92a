"""A server that says what a Prometheus, its proxy or an impostor says when something is wrong: what the real one cannot be made to say."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.lab.certificates import Certificates


@dataclass(frozen=True)
class Reply:
    """What is answered. `silent`: nothing, until the server is closed."""

    status: int = 200
    body: bytes = b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that came. `query` are the parameters, from the address or the body."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass(frozen=True)
class FakeMonitoring:
    """Where it listens and what it was asked."""

    url: str
    seen: list[Seen]


@contextmanager
def answering(reply: Reply | Callable[[Seen], Reply], certificates: Certificates | None = None) -> Iterator[FakeMonitoring]:
    """A server on loopback that gives one answer, or one for each request; over TLS with certificates."""
    closing = threading.Event()
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())

        def _answer(self, parameters: str) -> None:
            asked = Seen(
                self.command, urlsplit(self.path).path, parse_qs(parameters), {key.lower(): value for key, value in self.headers.items()}
            )
            seen.append(asked)
            said = reply(asked) if callable(reply) else reply
            if said.silent:
                closing.wait()
                return
            self.send_response(said.status)
            for key, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            try:
                self.wfile.write(said.body)
            except (BrokenPipeError, ConnectionResetError):
                # The client has heard enough.
                return

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the signature is the standard library's)
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield FakeMonitoring(f"{'https' if certificates else 'http'}://127.0.0.1:{server.server_port}", seen)
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
