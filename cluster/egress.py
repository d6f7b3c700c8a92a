"""Where requests of ours may go when a configuration names the address: not to a cloud's metadata service, by whatever name.

An address is judged after its name was resolved, and the connection goes to the address that was judged, so that a name which answers
differently the second time gains nothing. Redirects are nobody's to follow: `httpx2` follows none unless told to. Loopback and private
networks are allowed, because that is where monitoring lives.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import anyio
import httpx2

# Metadata and host services of clouds outside the link-local range: AWS (IPv6), Azure, Alibaba, Oracle.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")))
# The IPv4 address is in the last 32 bits (RFC 6052, well-known prefix).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedAddressError(httpx2.RequestError):
    """A name leads to an address that nothing of ours talks to."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Judges and pins the address of every request, then hands it to `beneath`."""

    def __init__(self, beneath: httpx2.AsyncBaseTransport) -> None:
        self._beneath = beneath

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        try:
            found = await anyio.getaddrinfo(host, request.url.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx2.ConnectError(f"{host} has no address: {error}", request=request) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if refused(address):
                raise RefusedAddressError(f"{host} is {address}, where clouds serve their metadata", request=request)
        # The Host header was made from the name, and TLS still checks the certificate against it.
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            # `localhost` is two addresses, of which a server often has one.
            with contextlib.suppress(httpx2.ConnectError):
                return await self._send(request, address)
        return await self._send(request, addresses[-1])

    async def _send(self, request: httpx2.Request, address: str) -> httpx2.Response:
        request.url = request.url.copy_with(host=address)
        return await self._beneath.handle_async_request(request)

    async def aclose(self) -> None:
        await self._beneath.aclose()


def refused(text: str) -> bool:
    """Whether an address is one of a metadata service, link-local, unspecified or multicast, also when embedded in IPv6."""
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    return address.is_link_local or address.is_unspecified or address.is_multicast or address in _METADATA


def _plain(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
