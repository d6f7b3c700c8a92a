"""Tokens that count and tokens that do not, signed and published by an issuer over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcp_server.authentication import Issuer, Tokens, find_keys
from mcp_server.errors import IssuerError
from tests.mcp_server.issuer import TokenIssuer, running_issuer

pytestmark = pytest.mark.anyio
AUDIENCE = "https://sj.example.com/mcp"


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with running_issuer() as running:
        yield running


def trusted(issuer: TokenIssuer, **changed: Any) -> Issuer:
    return replace(Issuer(issuer.url, f"{issuer.url}/keys", AUDIENCE), **changed)


async def test_the_holder_of_a_token_has_a_name_groups_and_scopes(issuer: TokenIssuer) -> None:
    seen = await Tokens(trusted(issuer)).verify_token(issuer.token(AUDIENCE))
    assert seen is not None
    assert seen.claims == {"iss": issuer.url, "name": "oidc:alice", "groups": ["oidc:ml-team"]}
    assert seen.scopes == ["openid", "smokejumper:read"]
    assert seen.token == ""


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "https://other.example.com/mcp"}, "another audience"),
        ({"aud": None}, "no audience"),
        ({"iss": "https://elsewhere.example.com"}, "another issuer"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"exp": None}, "never ends"),
        ({"nbf": 4_000_000_000}, "not yet"),
        ({"sub": None}, "nobody"),
        ({"sub": ""}, "an empty name"),
        ({"sub": "a" * 300}, "a name too long"),
        ({"sub": "al\nice"}, "a name with control characters"),
        ({"groups": "x" * 300}, "a group too long"),
        ({"groups": [1]}, "groups that are no names"),
        ({"groups": {"a": 1}}, "groups of another shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_token_that_does_not_count(issuer: TokenIssuer, claims: dict[str, Any], why: str) -> None:
    assert await Tokens(trusted(issuer)).verify_token(issuer.token(AUDIENCE, **claims)) is None, why


@pytest.mark.parametrize("claims", [{"sub": "system:admin"}, {"groups": ["system:masters"]}, {"groups": ["ml-team", "system:nodes"]}])
async def test_nobody_becomes_what_kubernetes_keeps_for_itself(issuer: TokenIssuer, claims: dict[str, Any]) -> None:
    bare = trusted(issuer, username_prefix="", groups_prefix="")
    assert await Tokens(bare).verify_token(issuer.token(AUDIENCE)) is not None
    assert await Tokens(bare).verify_token(issuer.token(AUDIENCE, **claims)) is None


async def test_an_address_that_was_not_verified_names_nobody(issuer: TokenIssuer) -> None:
    by_mail = trusted(issuer, username_claim="email")
    verified = await Tokens(by_mail).verify_token(issuer.token(AUDIENCE, email="a@example.com", email_verified=True))
    assert verified is not None
    for unverified in (False, "false", "true", 1):
        assert await Tokens(by_mail).verify_token(issuer.token(AUDIENCE, email="a@example.com", email_verified=unverified)) is None


async def test_a_forged_signature_does_not_count(issuer: TokenIssuer) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(issuer.claims(AUDIENCE), other, "RS256", headers={"kid": issuer.kid})
    assert await Tokens(trusted(issuer)).verify_token(forged) is None
    assert await Tokens(trusted(issuer)).verify_token("not.a.token") is None


async def test_a_public_key_is_no_shared_secret(issuer: TokenIssuer) -> None:
    """RFC 8725 section 2.1: HS256 with the published key as the secret."""
    import base64
    import hashlib
    import hmac
    import json

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    secret = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("HS256", "none"):
        signed = part({"alg": algorithm, "kid": issuer.kid}) + b"." + part(issuer.claims(AUDIENCE))
        signature = hmac.new(secret, signed, hashlib.sha256).digest() if algorithm == "HS256" else b""
        token = signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
        assert await Tokens(trusted(issuer)).verify_token(token.decode()) is None


async def test_scopes_stand_in_either_claim(issuer: TokenIssuer) -> None:
    for claims in ({"scope": None, "scp": ["smokejumper:read"]}, {"scope": None, "scp": "smokejumper:read"}):
        seen = await Tokens(trusted(issuer)).verify_token(issuer.token(AUDIENCE, **claims))
        assert seen is not None
        assert seen.scopes == ["smokejumper:read"]
    seen = await Tokens(trusted(issuer)).verify_token(issuer.token(AUDIENCE, scope=None))
    assert seen is not None
    assert seen.scopes == []


async def test_keys_that_cannot_be_read_let_nobody_in(issuer: TokenIssuer) -> None:
    away = trusted(issuer, keys_url="http://127.0.0.1:1/keys")
    with pytest.raises(IssuerError, match="no token can be checked"):
        await Tokens(away).verify_token(issuer.token(AUDIENCE))


async def test_unknown_keys_do_not_make_us_ask_each_time() -> None:
    with running_issuer() as issuer:
        tokens = Tokens(trusted(issuer))
        assert await tokens.verify_token(issuer.token(AUDIENCE)) is not None
        stranger = jwt.encode(issuer.claims(AUDIENCE), issuer.key, "RS256", headers={"kid": "unknown"})
        for _ in range(5):
            assert await tokens.verify_token(stranger) is None
        assert issuer.asked == ["/keys"]


async def test_the_keys_are_found_through_the_issuers_metadata(issuer: TokenIssuer) -> None:
    assert await find_keys(issuer.url) == f"{issuer.url}/keys"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"issuer": "https://elsewhere.example.com", "jwks_uri": "https://elsewhere.example.com/keys"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({}, "publishes no metadata"),
    ],
)
async def test_metadata_that_prove_nothing_are_refused(metadata: dict[str, Any], words: str) -> None:
    with running_issuer() as issuer:
        issuer.metadata = metadata
        with pytest.raises(IssuerError, match=words):
            await find_keys(issuer.url)


async def test_metadata_without_keys_are_refused() -> None:
    with running_issuer() as issuer:
        issuer.metadata = {"issuer": issuer.url}
        with pytest.raises(IssuerError, match="no jwks_uri"):
            await find_keys(issuer.url)


@pytest.mark.parametrize("address", ["http://issuer.example.com", "file:///etc/passwd", "issuer.example.com", ""])
async def test_keys_come_over_tls_or_from_this_machine(address: str) -> None:
    with pytest.raises(IssuerError, match="https"):
        await find_keys(address)
    with pytest.raises(IssuerError, match="https"):
        Tokens(Issuer("https://issuer.example.com", address, AUDIENCE))


async def test_an_issuer_that_is_down_is_named() -> None:
    with pytest.raises(IssuerError, match=r"cannot be reached at http://127\.0\.0\.1:1/"):
        await find_keys("http://127.0.0.1:1")
