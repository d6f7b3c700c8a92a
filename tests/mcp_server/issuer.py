"""An issuer of access tokens on loopback: OpenID Connect metadata, published keys, and tokens as a real one signs them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class TokenIssuer:
    """`url` is what tokens carry as `iss`. `rotate` replaces the key, as issuers do. `asked` lists the paths that were read."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.rotate("k1")

    def rotate(self, kid: str) -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def keys(self) -> dict[str, Any]:
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def claims(self, audience: str, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": audience,
            "sub": "alice",
            "groups": ["ml-team"],
            "scope": "openid smokejumper:read",
            "client_id": "ide",
            "iat": now,
            "exp": now + 600,
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, audience: str, **changed: Any) -> str:
        """An access token; a claim given as None is left out."""
        return jwt.encode(self.claims(audience, **changed), self.key, "RS256", headers={"kid": self.kid, "typ": "at+jwt"})


@contextmanager
def running_issuer() -> Iterator[TokenIssuer]:
    issuer = TokenIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            answers = {"/.well-known/openid-configuration": issuer.metadata, "/keys": issuer.keys()}
            found = answers.get(self.path)
            body = json.dumps(found or {}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    issuer.metadata = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", "response_types_supported": ["code"]}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
