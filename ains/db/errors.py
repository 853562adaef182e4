"""The one place where PostgreSQL's and asyncpg's errors become ours.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import asyncpg

from ains.errors import (
    AinsError,
    Conflict,
    DatabaseUnavailable,
    InvalidInput,
    NotFound,
    RetryLater,
)

_LOST_CLASSES = ("08", "57P")
_AWAY_CLASSES = (*_LOST_CLASSES, "53", "58")
_ROLLED_BACK = {"40001", "40P01"}
_CONTENTION = _ROLLED_BACK | {"55P03"}


def _contention() -> AinsError:
    return RetryLater("Too many requests changed the same rows at once; try again.")


def _denied() -> AinsError:
    return DatabaseUnavailable(
        "The database refuses AINS: user, password, database name or permissions are wrong."
    )


def _not_migrated() -> AinsError:
    return DatabaseUnavailable("The database has no AINS tables yet; run `ains migrate`.")


def _interrupted() -> AinsError:
    return RetryLater("The database took too long to answer and was interrupted.")


def _read_only() -> AinsError:
    return DatabaseUnavailable("The database is read-only just now, as a standby is; try again.")


def _deleted_meanwhile() -> AinsError:
    return NotFound("What this request belongs to has just been deleted.")


_BY_CODE: Mapping[str, Callable[[], AinsError]] = {
    **dict.fromkeys(_CONTENTION, _contention),
    **dict.fromkeys(("28000", "28P01", "3D000", "42501"), _denied),
    **dict.fromkeys(("42P01", "3F000", "42883"), _not_migrated),
    "57014": _interrupted,
    "23503": _deleted_meanwhile,
    "23505": Conflict,
    "25006": _read_only,
}

EXPECTED = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What a statement or a connection attempt raises when something outside AINS is wrong."""


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached or went away, so that another try may succeed."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code.startswith(_AWAY_CLASSES) and code != "57014"
    if isinstance(error, asyncpg.InterfaceError):
        return "connection" in str(error) or "pool" in str(error)
    if isinstance(error, asyncpg.InternalClientError):
        return was_not_sent(error)
    return isinstance(error, OSError | TimeoutError)


def is_rolled_back(error: BaseException) -> bool:
    """Whether a deadlock or a serialisation failure undid the transaction: it may be sent again."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _ROLLED_BACK


def was_not_sent(error: BaseException) -> bool:
    """Whether the connection turned out dead before the statement was sent over it.

    asyncpg says "cannot switch to state" when the server ended the session while it was idle.
    """
    text = str(error)
    return (
        isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in text
    ) or (isinstance(error, asyncpg.InterfaceError) and "connection is closed" in text)


def is_connection_lost(error: BaseException) -> bool:
    """Whether an established connection broke under a statement."""
    return is_away(error) and not isinstance(error, TimeoutError | DatabaseUnavailable)


def may_have_happened(error: BaseException) -> bool:
    """Whether the statement may have been carried out: sent, and not refused by the server."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_LOST_CLASSES)
    return not was_not_sent(error)


def translate(error: BaseException) -> AinsError | None:
    """The error a client is told; None for a mistake of our own, which must stay visible as one."""
    if is_away(error):
        return DatabaseUnavailable()
    if not isinstance(error, asyncpg.PostgresError):
        return None
    code = error.sqlstate or ""
    if known := _BY_CODE.get(code):
        return known()
    if code.startswith("22"):
        return InvalidInput(f"PostgreSQL can't store a value of this request: {error.args[0]}.")
    return None
