"""Addresses: whose request it is, behind proxies of ours; what one party holds; what we call ourselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """Return the address of the client behind ``peer``, who may be one of our ``trusted`` proxies.

    ``forwarded`` are the values of ``X-Forwarded-For``, in order. Each proxy appends whom it heard from, so they are
    believed from the right for as long as the speaker is trusted; what stands further left a client can invent.
    """
    address = peer
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and _is_in(address, trusted):
        try:
            address = str(ip_address(hops.pop().strip("[]")))
        except ValueError:
            break
    return address


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return _is_in(str(parsed.ipv4_mapped), networks)
    return any(parsed in network for network in networks)


def holder(address: str) -> str:
    """Return what one party holds: an IPv4 address, or the /64 of an IPv6 address (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address


def advertised(url: str, host: str) -> str:
    """Return ``url`` with ``host`` in the place of its own, or as it is where ``host`` is empty."""
    if not host:
        return url
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{shown}:{parts.port}").geturl()
