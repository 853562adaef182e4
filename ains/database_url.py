"""The address of a database, which has a password in it that nobody should see."""

import os
import re
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ains.redact import mask_url

__all__ = ["DatabaseUrl"]


class DatabaseUrl:
    """A PostgreSQL connection URL whose password does not show when it is printed."""

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        """Take ``postgresql://…``; raises `ValueError` for anything else, without repeating it."""
        # SQLAlchemy's spelling names the driver; asyncpg wants the plain one.
        url = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url.strip())
        try:
            parts = urlsplit(url)
            valid = parts.scheme in {"postgres", "postgresql"}
            for host in _places(parts):
                urlsplit(f"//{host}").port  # noqa: B018 - reading it is what checks it
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("must be a URL such as postgresql://user@host:5432/database")
        self._url = url

    def reveal(self) -> str:
        """The URL as given, password included: for the connection, never for people."""
        return self._url

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, as far as the URL tells."""
        parts = urlsplit(self._url)
        options = parse_qs(parts.query)
        if "service" in options:
            return False
        named = [urlsplit(f"//{place}").hostname or "" for place in _places(parts)]
        named += ",".join(options.get("host", [])).split(",")
        hosts = [name for name in named if name] or os.environ.get("PGHOST", "").split(",")
        return all(_is_local(unquote(host)) for host in hosts)

    def __str__(self) -> str:
        return mask_url(self._url)

    def __repr__(self) -> str:
        return f"DatabaseUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)


def _places(parts: SplitResult) -> list[str]:
    """Each host with its port: a primary may have standbys."""
    return parts.netloc.rpartition("@")[2].split(",")


def _is_local(host: str) -> bool:
    """``host`` is a name, an address, or the directory of a Unix socket; "" is the usual one."""
    if not host or host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
