"""Who calls over HTTP: the holder of an access token of one issuer, made for this server and for nobody else.

It checks JWTs against the issuer's published keys and reads a name, groups and scopes from them. It issues no token, keeps none and
passes none on: what leaves here is a `Caller`, and the cluster is told who that is by impersonation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import httpx2
import jwt
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings

from guardrails.redact import present
from mcp_server.errors import IssuerError
from mcp_server.registry import Access, Caller

# RFC 8725 section 3.1: only what the operator expects, and never a symmetric algorithm with a public key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED_CLAIMS = ("exp", "iss", "aud", "sub")
LEEWAY_SECONDS = 30
FETCH_SECONDS = 10
NAME_LIMIT = 256
GROUPS_LIMIT = 200
HTTP_CHANNEL = "mcp-http"
SCOPES = {Access.READ: "smokejumper:read", Access.PROPOSE: "smokejumper:propose", Access.GATED: "smokejumper:execute"}
# Kubernetes keeps these names for itself; nobody may become system:masters by a claim.
RESERVED_PREFIX = "system:"


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count and how their claims become names, as an API server's `--oidc-*` flags say it.

    `audience` must stand in a token's `aud`: the address of this server as clients know it (RFC 8707), unless the issuer cannot do that.
    """

    url: str
    keys_url: str
    audience: str
    username_claim: str = "sub"
    username_prefix: str = "oidc:"
    groups_claim: str = "groups"
    groups_prefix: str = "oidc:"


async def find_keys(issuer: str) -> str:
    """Where an issuer publishes its keys, from its metadata (OpenID Connect Discovery, else RFC 8414). Raises IssuerError."""
    _secure(issuer, "the issuer")
    parts = urlsplit(issuer)
    rfc8414 = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
    async with httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as client:
        for address in (f"{issuer.rstrip('/')}/.well-known/openid-configuration", rfc8414):
            try:
                answer = await client.get(address)
            except httpx2.HTTPError as error:
                raise IssuerError(
                    f"the issuer cannot be reached at {address}: {error}. Correct oidc.issuer, or set oidc.keys_url."
                ) from error
            if answer.status_code == 200:
                return _keys_of(answer, issuer, address)
    raise IssuerError(f"{issuer} publishes no metadata (last answer {answer.status_code}). Correct oidc.issuer, or set oidc.keys_url.")


def _keys_of(answer: httpx2.Response, issuer: str, address: str) -> str:
    try:
        document = answer.json()
    except ValueError as error:
        raise IssuerError(f"{address} is not JSON. Correct oidc.issuer, or set oidc.keys_url.") from error
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise IssuerError(f"the metadata at {address} are of another issuer. Write oidc.issuer exactly as tokens carry it in `iss`.")
    keys = document.get("jwks_uri")
    if not isinstance(keys, str):
        raise IssuerError(f"the metadata at {address} name no jwks_uri. Set oidc.keys_url.")
    return keys


class Tokens(TokenVerifier):
    """Checks one issuer's tokens. Keys are fetched when needed, kept five minutes, and asked for again at most every 30 seconds."""

    def __init__(self, issuer: Issuer) -> None:
        _secure(issuer.keys_url, "oidc.keys_url")
        self._issuer = issuer
        self._keys = jwt.PyJWKClient(issuer.keys_url, timeout=FETCH_SECONDS)

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller behind a token, or None for one that does not count here. The token itself is not kept.

        Raises IssuerError when the issuer's keys cannot be read: nobody can be let in then.
        """
        try:
            key = await anyio.to_thread.run_sync(self._keys.get_signing_key_from_jwt, token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._issuer.audience,
                issuer=self._issuer.url,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED_CLAIMS)},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise IssuerError(f"the keys at {self._issuer.keys_url} cannot be read, so no token can be checked: {error}") from error
        except jwt.PyJWTError:
            return None
        name, groups = self._name(claims), self._groups(claims)
        if name is None or groups is None:
            return None
        return AccessToken(
            token="",
            client_id=str(claims.get("client_id") or claims.get("azp") or ""),
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]) + LEEWAY_SECONDS,
            resource=self._issuer.audience,
            subject=str(claims["sub"]),
            claims={"iss": self._issuer.url, "name": name, "groups": groups},
        )

    def _name(self, claims: dict[str, Any]) -> str | None:
        """The name for Kubernetes. An address that its issuer has not verified names nobody (as in Kubernetes: only `true` says that
        it is, also where the claim is a text)."""
        value = claims.get(self._issuer.username_claim)
        unverified = self._issuer.username_claim == "email" and claims.get("email_verified", True) is not True
        if not isinstance(value, str) or not value or unverified:
            return None
        return _allowed(self._issuer.username_prefix + value)

    def _groups(self, claims: dict[str, Any]) -> list[str] | None:
        values = claims.get(self._issuer.groups_claim, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or len(values) > GROUPS_LIMIT or not all(isinstance(value, str) for value in values):
            return None
        groups = [_allowed(self._issuer.groups_prefix + value) for value in values]
        return [group for group in groups if group is not None] if None not in groups else None


class Authentication:
    """What the SDK's server needs of an issuer, and the scopes of a request. `url` is this server's address as clients know it."""

    def __init__(self, issuer: Issuer, url: str) -> None:
        self.issuer = issuer
        self.tokens = Tokens(issuer)
        # Only so does an address keep its exact spelling, by which clients compare issuers (RFC 9207). The audience is checked by
        # `Tokens`, which also serves issuers without RFC 8707.
        self.settings = AuthSettings.model_validate(
            {
                "issuer_url": issuer.url,
                "resource_server_url": url,
                "required_scopes": [SCOPES[Access.READ]],
                "validate_token_resource": False,
            }
        )

    def missing_scope(self, access: Access) -> str | None:
        """The scope that this request's token lacks for such a tool; None when it has it."""
        token = get_access_token()
        held = token.scopes if token is not None else ()
        return None if SCOPES[access] in held else SCOPES[access]


def token_caller() -> Caller | None:
    """Who makes the request that is being answered, by its token; None where the server asks for none."""
    token = get_access_token()
    if token is None or token.claims is None:
        return None
    return Caller(token.claims["name"], tuple(token.claims["groups"]), HTTP_CHANNEL)


def _allowed(name: str) -> str | None:
    return name if len(name) <= NAME_LIMIT and name.isprintable() and not name.startswith(RESERVED_PREFIX) else None


def _scopes(claims: dict[str, Any]) -> list[str]:
    """`scope` is a string of words (RFC 9068); some issuers write `scp`, as a string or a list."""
    value = claims.get("scope", claims.get("scp", ""))
    words = value.split() if isinstance(value, str) else value
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def _secure(address: str, what: str) -> None:
    parts = urlsplit(address)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise IssuerError(f"{what} must be an https:// address, not {present(address, 200)!r}. Correct the [oidc] settings.")
