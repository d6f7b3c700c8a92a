from __future__ import annotations

import pytest

from cluster.errors import UnreachableClusterError
from cluster.proxy import environment_proxy, usable

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}
FOUND = PROXY["HTTPS_PROXY"]


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://api.example:6443", PROXY, FOUND),
        ("https://api.example:6443", {"https_proxy": FOUND}, FOUND),
        ("https://api.example:6443", {"HTTPS_PROXY": "proxy.example:3128"}, FOUND),
        ("http://api.example:6443", PROXY, None),
        ("https://api.example:6443", {}, None),
        ("https://localhost:6443", PROXY, None),
        ("https://127.0.0.1:6443", PROXY, None),
        ("https://[::1]:6443", PROXY, None),
        ("https://[::1", PROXY, None),
        ("https://api.example:99999", PROXY, None),
    ],
)
def test_which_proxy_the_environment_names(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert environment_proxy(url, environment) == proxy


@pytest.mark.parametrize(
    ("host", "no_proxy", "straight"),
    [
        ("api.example", "*", True),
        ("api.example", "other.example, example", True),
        ("api.example", ".example", True),
        ("api.example", "*.example", True),
        ("api.example", ".api.example", False),
        ("api.example", "*.api.example", False),
        ("api.example", "ample", False),
        ("api.example", "", False),
        ("api.example", "api.example:6443", True),
        ("api.example", "api.example:443", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "2.3", False),
        ("192.0.2.1", "10.0.0.0/8,nonsense/8", False),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::/32", True),
    ],
)
def test_who_is_asked_straight(host: str, no_proxy: str, straight: bool) -> None:
    found = environment_proxy(f"https://{host}:6443", {**PROXY, "no_proxy": no_proxy})
    assert (found is None) is straight


def test_a_port_that_a_url_leaves_out_is_its_schemes() -> None:
    assert environment_proxy("https://api.example", {**PROXY, "no_proxy": "api.example:443"}) is None
    assert environment_proxy("https://api.example", {**PROXY, "no_proxy": "api.example:80"}) == FOUND


def test_a_proxy_that_speaks_no_http_is_refused_in_words() -> None:
    assert usable(FOUND, "https://api.example") == FOUND
    assert usable(None, "https://api.example") is None
    with pytest.raises(UnreachableClusterError, match=r"through a socks5 proxy.*NO_PROXY"):
        usable("socks5://proxy.example:1080", "https://api.example")
