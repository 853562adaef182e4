"""What a database can tell of its own health, for `ains doctor`. Changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ains.db.sql import load

if TYPE_CHECKING:
    from ains.db.statements import Statements

__all__ = ["Backlog", "LabelInWait", "OldTransaction", "Server"]

_QUERIES: Final = load("diagnosis")


class Server(NamedTuple):
    """The server as a whole; ``clock`` is its time in Unix seconds."""

    version: str
    max_connections: int
    connections: int
    listeners: int
    """Processes of AINS with workers that are connected to this database."""
    is_standby: bool
    unsafe: list[str]
    """Settings that are off although a crash may lose or corrupt data then."""
    clock: float


class OldTransaction(NamedTuple):
    """Who keeps dead rows from being removed, and the SQL that ends it."""

    who: str
    remedy: str
    seconds: float | None
    """Its age; None where there is none, or this role may not know it."""
    transactions: int
    """How many transactions have begun since."""
    horizon: str
    """Stays the same until it is another transaction."""
    what: str
    hidden: bool
    """This role sees no more of the session."""


class LabelInWait(NamedTuple):
    """A label that has reached its limit and could not be closed in ``tries`` tries."""

    label: str
    tries: int
    holders: list[str]
    """Who is in the way at the moment."""


class Backlog(NamedTuple):
    """What waits for workers that should have seen to it."""

    open_events: int
    folded_seconds_ago: float
    overdue: int
    """Attempts that are past their deadline."""
    silent: int
    """Agents taken for alive that sent no heartbeat for longer than the TTL."""
    inactive: int
    available: int
    same_ttl: bool
    """The views in the schema metrics have the TTL that this configuration says."""
    pruned_ahead: datetime | None
    """Until when history is pruned, if that is still to come."""


async def server(statements: Statements) -> Server:
    """Look at the server."""
    row = await statements.fetchrow(_QUERIES["server"])
    if row is None:
        raise LookupError("a SELECT without FROM returned nothing")
    return Server(**row)


async def old_transactions(statements: Statements, age: timedelta) -> list[OldTransaction]:
    """Transactions, prepared ones too, that are older than ``age`` or of unknown age."""
    return [
        OldTransaction(**row) for row in await statements.fetch(_QUERIES["old_transactions"], age)
    ]


async def sees_all(statements: Statements) -> bool:
    """Whether this role sees what others' sessions do."""
    row = await statements.fetchrow(_QUERIES["sees_all"])
    return row is not None and bool(row[0])


async def labels_in_wait(statements: Statements) -> list[LabelInWait]:
    """Labels that can't be closed since somebody is writing."""
    return [LabelInWait(**row) for row in await statements.fetch(_QUERIES["labels_in_wait"])]


async def disabled_triggers(statements: Statements) -> list[str]:
    """Triggers that are switched off, as ``table.trigger``."""
    return [row["name"] for row in await statements.fetch(_QUERIES["disabled_triggers"])]


async def backlog(statements: Statements, grace: timedelta, agent_ttl: timedelta) -> Backlog:
    """What has been waiting for longer than ``grace``."""
    row = await statements.fetchrow(_QUERIES["backlog"], grace, agent_ttl)
    if row is None:
        raise LookupError("metrics.fold_state has lost its row")
    return Backlog(**row)


async def unserved_capabilities(statements: Statements) -> list[str]:
    """Capabilities, six at most, that waiting tasks need and no AVAILABLE agent offers."""
    return [row["capability"] for row in await statements.fetch(_QUERIES["wanted"])]
