"""The address of a database, which has a password in it that nobody should see."""

import re
from urllib.parse import urlsplit

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
            for host in parts.netloc.rpartition("@")[2].split(","):  # a primary and its standbys
                urlsplit(f"//{host}").port  # noqa: B018 - reading it is what checks it
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("must be a URL such as postgresql://user@host:5432/database")
        self._url = url

    def reveal(self) -> str:
        """The URL as given, password included: for the connection, never for people."""
        return self._url

    def __str__(self) -> str:
        return mask_url(self._url)

    def __repr__(self) -> str:
        return f"DatabaseUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)
