"""Which proxy stands between us and an API server: the kubeconfig's, else the one that the environment names, as kubectl has it.

The transport could look for itself, but would do so before every request, in a thread, and takes passwords from ~/.netrc along.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from cluster.errors import UnreachableClusterError


def environment_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy's address for an API server, None to go straight. Go, net/http `ProxyFromEnvironment` and golang.org/x/net/http/httpproxy:
    HTTPS_PROXY and HTTP_PROXY by the server's scheme, NO_PROXY, either case; this machine is never asked through one. For what is no
    address there is none: whoever asks it says so."""

    def said(name: str) -> str:
        return environment.get(name.upper()) or environment.get(name) or ""

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    proxy, host = said(f"{parts.scheme}_proxy"), parts.hostname or ""
    if not proxy or host == "localhost" or any(_covers(entry.strip().lower(), host, port) for entry in said("no_proxy").split(",")):
        return None
    address = _address(host)
    if address is not None and address.is_loopback:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def usable(proxy: str | None, server: str) -> str | None:
    """The same proxy. Raises UnreachableClusterError for one that speaks no HTTP: kubectl goes through SOCKS, our transport does not."""
    scheme = (proxy or "http:").partition(":")[0].lower()
    if scheme not in ("http", "https"):
        raise UnreachableClusterError(
            f"the way to {server} leads through a {scheme} proxy, and only HTTP proxies can be used here. Name one as HTTPS_PROXY or as "
            "proxy-url of the cluster, or put the server into NO_PROXY."
        )
    return proxy


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY means the host: `*`, an address or a range, a domain with all below it, or with a dot before it only
    those below; maybe with a port."""
    address = _address(host)
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, last = entry.rpartition(":")
    if colon and last.isdigit() and _address(entry) is None:
        if last != str(port):
            return False
        entry = name
    name = entry.strip("[]").removeprefix("*")
    domain = name.removeprefix(".")
    below = address is None and bool(domain) and host.endswith(f".{domain}")
    return entry == "*" or (bool(domain) and host == name) or below


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
