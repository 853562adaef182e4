"""Which addresses a webhook may be sent to: public unicast ones, and those an operator allows.

Guards against server-side request forgery. `ipaddress.is_global` alone is not enough: it holds for
multicast and 6to4, and for private addresses that are wrapped in an IPv6 transition format, which
are unwrapped here first.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

__all__ = ["Network", "is_allowed", "literal_address", "parse_networks"]

Network = IPv4Network | IPv6Network

_TRANSITION: Final = (
    ipaddress.ip_network("64:ff9b::/96"),  # NAT64, RFC 6052
    ipaddress.ip_network("64:ff9b:1::/48"),  # local-use NAT64, RFC 8215
    ipaddress.ip_network("2002::/16"),  # 6to4, RFC 3056
    ipaddress.ip_network("2001::/32"),  # Teredo, RFC 4380
    ipaddress.ip_network("::/96"),  # IPv4-compatible, RFC 4291
    ipaddress.ip_network("::ffff:0:0:0/96"),  # IPv4-translated, RFC 2765
    ipaddress.ip_network("fec0::/10"),  # site-local, RFC 3879
    ipaddress.ip_network("5f00::/16"),  # segment routing, RFC 9602
    ipaddress.ip_network("3fff::/20"),  # documentation, RFC 9637
)
_NEVER: Final = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments, RFC 6890
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.ip_network("100.64.0.0/10"),  # carrier-grade NAT, RFC 6598
)
_PART = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_IPV4_PARTS: Final = 4
_OCTET: Final = 256


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation; raises `ValueError` that names the wrong one."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_allowed(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether a connection to this numeric address may be opened.

    Args:
        address: IPv4 or IPv6 address as a socket has it, perhaps with a scope (``fe80::1%eth0``).
        allowed: networks that are permitted although they are not public.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in allowed if network.version == ip.version):
        return True
    return _is_public_unicast(ip)


def _is_public_unicast(ip: IPv4Address | IPv6Address) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    # Whatever is wrapped in a transition format would leave the host as something else; nobody
    # publishes a webhook there.
    return not any(
        ip in network for network in (*_NEVER, *_TRANSITION) if network.version == ip.version
    )


def literal_address(host: str) -> str | None:
    """The address that a resolver makes of a host that spells one, None when it is a name.

    Understands what ``inet_aton`` does: ``2130706433``, ``0x7f.1``, ``0177.0.0.1``, ``127.1``; and
    digits and dots of other scripts, which IDNA maps to ASCII.
    """
    text = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").rstrip(".")
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        pass
    parts = text.split(".")
    if not 1 <= len(parts) <= _IPV4_PARTS or not all(_PART.fullmatch(part) for part in parts):
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    *high, low = [number for number in numbers if number is not None]
    if any(number >= _OCTET for number in high) or low >= _OCTET ** (_IPV4_PARTS - len(high)):
        return None
    value = low
    for place, number in enumerate(high):
        value += number << (8 * (3 - place))
    return str(IPv4Address(value))


def _number(part: str) -> int | None:
    try:
        if part[:2].lower() == "0x":
            return int(part[2:] or "0", 16)
        return int(part, 8) if part.startswith("0") and part != "0" else int(part)
    except ValueError:
        return None
