"""What `ains doctor` looks at in the database."""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import asyncpg

from ains.commands.database import Source
from ains.commands.findings import Finding, age, note, ok, problem
from ains.db import diagnosis, errors, migrations
from ains.db.diagnosis import Backlog, Server
from ains.db.pool import Database, is_pooled
from ains.errors import AinsError
from ains.metrics import POOLER
from ains.redact import redact
from ains.settings import Settings
from ains.workers.startup import explain

__all__ = ["examine"]

_CONNECT_SECONDS: Final = 5.0
_GRACE: Final = timedelta(seconds=30)
_OLD: Final = timedelta(minutes=5)
_SECOND_LOOK: Final = 1.0
_MANY_TRANSACTIONS: Final = 1000
_SKEW_SECONDS: Final = 2.0
_MANY_EVENTS: Final = 100_000
_SHOWN: Final = 5
_NO_WORKER = (
    "No process with workers does this. Start `ains serve` (without --no-workers), "
    "or look into its log."
)


async def examine(source: Source) -> AsyncIterator[Finding]:
    """Yield what is found, what everything else rests on first."""
    settings = source.settings
    try:
        connection = await asyncpg.connect(
            source.dsn, timeout=_CONNECT_SECONDS, statement_cache_size=0
        )
    except errors.EXPECTED as error:
        yield problem(
            f"The database can't be used: {redact(explain(error))}",
            f"AINS connects to {source.safe_dsn}. Is the server running, and are user, password "
            "and name of the database right?",
        )
        return
    try:
        version = connection.get_server_version()
        pooled = await is_pooled(connection)
        async with connection.transaction():
            revision = await migrations.current(connection)
    except AinsError as error:
        what, _, advice = error.detail.partition(". ")
        yield problem(f"{what}.", advice)
        return
    finally:
        await connection.close()
    if version.major < migrations.OLDEST_SERVER:
        yield problem(
            f"The server is PostgreSQL {version.major}, which is too old.",
            f"Upgrade it to {migrations.OLDEST_SERVER} or newer.",
        )
        return
    database = Database(
        source.dsn,
        max_size=1,
        pooler=POOLER[settings.database_pgbouncer],
        application_name="ains doctor",
    )
    try:
        server = await diagnosis.server(database)
        for finding in _server(server, settings, source, pooled=pooled):
            yield finding
        yield _revision(revision)
        for finding in await _transactions(database):
            yield finding
        if revision == migrations.head():
            for finding in await _contents(database, settings, server):
                yield finding
    except AinsError as error:
        yield problem(f"The database could not be examined: {error.detail}", "Try again.")
    finally:
        await database.close()


def _server(server: Server, settings: Settings, source: Source, *, pooled: bool) -> list[Finding]:
    skew = server.clock - time.time()
    found = [ok(f"PostgreSQL {server.version} answers at {source.safe_dsn}")]
    if pooled:
        found.append(
            note(
                "A connection pooler stands before it: dispatchers can't be notified and look for "
                f"tasks every {settings.dispatch_interval:g} s (AINS_DISPATCH_INTERVAL)."
            )
        )
    if server.is_standby:
        found.append(
            problem(
                "The server is a standby: it can be read, not written.",
                "Point AINS_DATABASE_URL at the primary; scrapes may read a standby "
                "(AINS_METRICS_DATABASE_URL).",
            )
        )
    if server.unsafe:
        found.append(
            problem(
                f"{' and '.join(server.unsafe)} off: a crash of the machine may lose or corrupt "
                "data.",
                "Switch on in postgresql.conf, unless the data is of no value.",
            )
        )
    if abs(skew) > _SKEW_SECONDS:
        found.append(
            problem(
                f"The clocks of this machine and of the database differ by {skew:+.1f} s.",
                "Let NTP set both. Deadlines and heartbeats go by the database's clock.",
            )
        )
    needed = settings.pool_max + settings.metrics_pool_max + 1
    if server.max_connections < needed:
        found.append(
            problem(
                f"The server takes {server.max_connections} connections, "
                f"one `ains serve` may want {needed}.",
                "Raise max_connections, or lower AINS_POOL_MAX.",
            )
        )
    return found


def _revision(revision: str | None) -> Finding:
    head = migrations.head()
    if revision is None:
        return problem("The database has no AINS tables yet.", "Run `ains migrate` (or `serve`).")
    if revision == head:
        return ok(f"The schema is up to date ({head})")
    if revision in migrations.revisions():
        return problem(f"The schema is {revision}; this AINS needs {head}.", "Run `ains migrate`.")
    return problem(
        f"The schema {revision} belongs to a newer AINS; this one knows {head}.", "Upgrade AINS."
    )


async def _transactions(database: Database) -> list[Finding]:
    found = await _old_transactions(database)
    if not found:
        found.append(ok(f"No transaction is older than {age(_OLD.total_seconds())}"))
    if not await diagnosis.sees_all(database):
        found.append(
            note(
                "This role doesn't see what other sessions do: of their transactions, only those "
                f"that last for {_SECOND_LOOK:g} s while it looks, and not their age. "
                "GRANT pg_read_all_stats to it for more."
            )
        )
    return found


async def _old_transactions(database: Database) -> list[Finding]:
    old = await diagnosis.old_transactions(database, _OLD)
    if any(t.seconds is None for t in old):
        # Of unknown age: whoever is still there has more than a moment.
        await sleep(_SECOND_LOOK)
        again = {(t.who, t.horizon) for t in await diagnosis.old_transactions(database, _OLD)}
        old = [t for t in old if t.seconds is not None or (t.who, t.horizon) in again]
    found = []
    for t in old:
        who = f"{t.who[:1].upper()}{t.who[1:]} ({t.what})"
        advice = f"End it there, or with: {t.remedy};"
        if t.seconds is not None:
            found.append(
                problem(
                    f"{who} has been in one transaction for {age(t.seconds)}. Dead rows can't be "
                    "removed meanwhile, and scrapes slow down.",
                    advice,
                )
            )
        elif t.hidden or t.transactions > _MANY_TRANSACTIONS:
            found.append(
                problem(
                    f"{who} holds a snapshot of unknown age; {t.transactions} transactions have "
                    "begun since. Dead rows can't be removed meanwhile, and scrapes slow down.",
                    f"If that is for long: {advice[:1].lower()}{advice[1:]}",
                )
            )
    return found


async def _contents(database: Database, settings: Settings, server: Server) -> list[Finding]:
    ttl = timedelta(seconds=settings.agent_ttl)
    backlog = await diagnosis.backlog(database, _GRACE, ttl)
    found = [*_backlog(backlog, server), *_agents(backlog, settings)]
    found += [
        note(
            f"The label {waiting.label} has reached AINS_METRICS_LABEL_LIMIT and goes on growing: "
            f"in {waiting.tries} tries somebody was writing for long"
            + (f", now {', '.join(waiting.holders)}." if waiting.holders else ".")
        )
        for waiting in await diagnosis.labels_in_wait(database)
    ]
    if disabled := await diagnosis.disabled_triggers(database):
        found.append(
            problem(
                f"Triggers are switched off: {', '.join(disabled)}. What they count is not "
                "counted.",
                "ALTER TABLE … ENABLE TRIGGER …;",
            )
        )
    if wanted := await diagnosis.unserved_capabilities(database):
        names = ", ".join(wanted[:_SHOWN]) + (" …" if len(wanted) > _SHOWN else "")
        found.append(note(f"Tasks wait for capabilities that no AVAILABLE agent offers: {names}"))
    return found


def _backlog(backlog: Backlog, server: Server) -> list[Finding]:
    found = []
    waited = backlog.folded_seconds_ago
    if backlog.open_events and waited > _GRACE.total_seconds():
        found.append(
            problem(
                f"{backlog.open_events} facts of the ledger wait to be folded, for {age(waited)}. "
                "Counters are right, but scrapes get slower.",
                _NO_WORKER,
            )
        )
    elif backlog.open_events > _MANY_EVENTS:
        found.append(
            problem(
                f"{backlog.open_events} facts of the ledger wait to be folded: the workers don't "
                "keep up, and scrapes get slower.",
                "Lower AINS_FOLD_INTERVAL; look for long transactions and slow disks.",
            )
        )
    else:
        found.append(ok(f"The ledger is folded ({backlog.open_events} open facts)"))
    if backlog.overdue:
        found.append(
            problem(f"{backlog.overdue} tasks are past their deadline but not ended.", _NO_WORKER)
        )
    if backlog.pruned_ahead is not None:
        found.append(
            problem(
                f"History is pruned until {backlog.pruned_ahead:%Y-%m-%d %H:%M} UTC, which is to "
                "come: the server's clock must have been ahead. What happens until then counts, "
                "but is forgotten at once.",
                "UPDATE metrics.retention_state SET pruned_until = "
                "date_trunc('day', now(), 'UTC');",
            )
        )
    if server.listeners:
        found.append(ok(f"{server.listeners} process(es) with workers are connected"))
    return found


def _agents(backlog: Backlog, settings: Settings) -> list[Finding]:
    found = []
    if backlog.silent:
        found.append(
            problem(
                f"{backlog.silent} agents are lost (no heartbeat for {settings.agent_ttl:g} s) and "
                "still taken for alive.",
                _NO_WORKER,
            )
        )
    if backlog.inactive:
        found.append(
            note(
                f"{backlog.inactive} agents are INACTIVE, signed off or lost; "
                f"{backlog.available} are AVAILABLE."
            )
        )
    if not backlog.same_ttl:
        found.append(
            note(
                "metrics.settings has another agent TTL than AINS_AGENT_TTL says; "
                "`ains serve` writes it when it starts."
            )
        )
    return found
