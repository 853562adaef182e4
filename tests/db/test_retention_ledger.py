"""History is made by days, pruned in batches and dropped by days, and no total ever changes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from tests.support.databases import eventually
from tests.support.retention import (
    LEDGERS,
    count,
    ended_tasks,
    fold,
    grow_old,
    make_day,
    prune,
    prune_once,
    today,
    unbalanced,
)
from tests.support.rows import add_agent

DAYS = timedelta(days=1)
_SERIES = """
SELECT family, label_1, label_2, bucket, n, sum_us, first_at
  FROM metrics.series ORDER BY 1, 2, 3, 4
"""


async def partitions(db: asyncpg.Connection, ledger: str = "task_events") -> list[str]:
    rows = await db.fetch(
        "SELECT partition FROM metrics.ledger_partitions() "
        "WHERE ledger = $1 AND from_at IS NOT NULL ORDER BY from_at",
        f"{ledger}_closed",
    )
    return [row["partition"] for row in rows]


async def series(db: asyncpg.Connection) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await db.fetch(_SERIES)
    return found


async def is_waiting(db: asyncpg.Connection, number: int = 1) -> bool:
    waiting: int = await db.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return waiting >= number


class TestMakePartitions:
    async def test_a_week_ahead(self, db: asyncpg.Connection) -> None:
        made = [r[0] for r in await db.fetch("SELECT metrics.make_partitions()")]
        assert len(made) == 8 * len(LEDGERS)
        for ledger in LEDGERS:
            expected = [f"{ledger}_closed_{today() + n * DAYS:%Y%m%d}" for n in range(8)]
            assert await partitions(db, ledger) == expected
        assert await db.fetch("SELECT metrics.make_partitions()") == []

    async def test_a_partition_looks_like_its_table(self, db: asyncpg.Connection) -> None:
        await db.execute("SELECT metrics.make_partitions()")
        name = (await partitions(db))[0]
        index = "SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass"
        assert await db.fetchval(index, name) == await db.fetchval(index, "task_events_closed")
        comment = await db.fetchval("SELECT obj_description($1::text::regclass)", name)
        assert comment == f"Facts of {today():%Y-%m-%d} (UTC)."

    async def test_facts_go_to_their_day(self, db: asyncpg.Connection) -> None:
        await db.execute("SET timezone = 'Pacific/Auckland'")
        await db.execute("SELECT metrics.make_partitions()")
        await ended_tasks(db, 10)
        await fold(db)
        assert await count(db, "task_events_closed_default") == 0
        assert await count(db, (await partitions(db))[0]) == await count(db, "task_events")

    async def test_facts_that_came_before_the_partition_are_moved(
        self, db: asyncpg.Connection
    ) -> None:
        await ended_tasks(db, 10, 3 * DAYS)
        await ended_tasks(db, 20)
        await fold(db)
        before, facts = await series(db), await count(db, "task_events")
        await db.execute("SELECT metrics.make_partitions()")
        assert await count(db, (await partitions(db))[0]) == 40
        assert await count(db, "task_events_closed_default") == 20
        assert await count(db, "task_events") == facts
        assert await series(db) == before
        assert await unbalanced(db) == []

    async def test_a_few_at_a_time(self, db: asyncpg.Connection) -> None:
        made = await db.fetch("SELECT metrics.make_partitions(most => 4)")
        assert [name for (name,) in made] == [
            *(f"{ledger}_closed_{today():%Y%m%d}" for ledger in sorted(LEDGERS)),
            f"chain_events_closed_{today() + DAYS:%Y%m%d}",
        ]
        assert len(await db.fetch("SELECT metrics.make_partitions()")) == 20
        assert len(await partitions(db)) == 8

    @pytest.mark.parametrize("ahead", [0, 1], ids=["today", "of a clock that was ahead"])
    async def test_facts_are_not_moved_when_they_are_many(
        self, db: asyncpg.Connection, ahead: int
    ) -> None:
        await ended_tasks(db, 1)
        await fold(db)
        await db.execute(
            "INSERT INTO task_events_closed_default (at, task_id, task_type, client_id,"
            " agent_id, from_status, to_status, priority)"
            f" SELECT at + interval '{ahead} day', task_id, task_type, client_id, agent_id,"
            " from_status, to_status, priority"
            " FROM task_events_closed_default CROSS JOIN generate_series(1, 50000)"
        )
        day = today() + ahead * DAYS
        many = await db.fetchval(
            "SELECT count(*) FROM task_events_closed_default WHERE at >= $1", day
        )
        assert len(await db.fetch("SELECT metrics.make_partitions()")) == 23
        assert await count(db, "task_events_closed_default") == many
        assert f"task_events_closed_{day:%Y%m%d}" not in await partitions(db)
        assert len(await partitions(db)) == 7
        assert await db.fetch("SELECT metrics.make_partitions()") == []

    async def test_several_processes_at_once(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        await ended_tasks(db, 20)
        await fold(db)
        async with asyncpg.create_pool(database_url, min_size=4, max_size=4) as pool:
            async with db.transaction():
                # All of them come before the first is done.
                await db.execute("LOCK TABLE chain_events_closed_default")
                calls = [pool.fetch("SELECT metrics.make_partitions()") for _ in range(4)]
                making = [asyncio.create_task(call) for call in calls]
                await eventually(lambda: is_waiting(db, 4))
            made = [len(names) for names in await asyncio.gather(*making)]
        assert sorted(made) == [0, 0, 0, 24]
        assert await count(db, "task_events_closed") == 40

    async def test_a_fold_that_has_not_committed_loses_nothing(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        """It has written facts of today to the default partition that nobody else can see yet."""
        await ended_tasks(db, 5)
        folding = await asyncpg.connect(database_url)
        transaction = folding.transaction()
        await transaction.start()
        await fold(folding)
        making = asyncio.create_task(db.fetch("SELECT metrics.make_partitions()"))
        await eventually(lambda: is_waiting(folding))
        await transaction.commit()
        assert len(await making) == 24
        assert await count(db, "task_events_closed_default") == 0
        assert await count(db, "task_events_closed") == 10
        await folding.close()

    async def test_whoever_reads_history_for_long_is_not_waited_for(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        reader = await asyncpg.connect(database_url)
        async with reader.transaction():
            await reader.fetch("SELECT * FROM task_events")
            await db.execute("SELECT metrics.make_partitions()")
            assert await partitions(db) == []
        await db.execute("SELECT metrics.make_partitions()")
        assert len(await partitions(db)) == 8
        await reader.close()

    async def test_not_for_more_than_a_year(self, db: asyncpg.Connection) -> None:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await db.execute("SELECT metrics.make_partitions('9999-12-31')")


class TestPruneLedger:
    async def test_no_series_changes(self, db: asyncpg.Connection) -> None:
        await make_day(db, (today() - 40 * DAYS).date())
        await ended_tasks(db, 100, 40 * DAYS)
        await ended_tasks(db, 50, 41 * DAYS)  # in the default partition
        await ended_tasks(db, 10, 5 * DAYS)
        await fold(db)
        before = await series(db)
        batches = []
        while gone := await prune_once(db, 30 * DAYS, 70):
            batches.append(gone)
            assert await series(db) == before
            assert await unbalanced(db) == []
        assert batches == [70, 70, 60, 70, 30]
        assert await count(db, "task_events") == 20
        assert await count(db, "metrics.pruned") > 0

    async def test_chains_and_webhooks(self, db: asyncpg.Connection) -> None:
        await db.execute(
            "SELECT submit_chain(gen_random_uuid(), 'n', 'c', "
            """'[{"task_type": "t", "capability_required": "x"}]')"""
        )
        await db.execute("UPDATE tasks SET status = 'COMPLETED', assigned_agent_id = 'a'")
        await add_agent(db, "c1")
        await db.execute(
            "INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret) "
            "VALUES (gen_random_uuid(), 'c1', 'https://h/', 'h', '{task.created}', 's')"
        )
        await ended_tasks(db, 3)
        await db.execute("UPDATE webhook_deliveries SET status = 'success', next_attempt_at = NULL")
        await grow_old(db, 40 * DAYS)
        await fold(db)
        assert all([await count(db, f"{ledger}_closed") for ledger in LEDGERS])
        before = await series(db)
        await prune(db, 30 * DAYS)
        assert [await count(db, f"{ledger}_closed") for ledger in LEDGERS] == [0, 0, 0]
        assert await series(db) == before
        assert await unbalanced(db) == []

    async def test_only_whole_days_and_never_back(self, db: asyncpg.Connection) -> None:
        await db.execute("SET timezone = 'Asia/Tokyo'")
        until = "SELECT pruned_until FROM metrics.retention_state"
        await prune(db, 30 * DAYS)
        assert await db.fetchval(until) == today() - 30 * DAYS
        await prune(db, 90 * DAYS)
        assert await db.fetchval(until) == today() - 30 * DAYS
        await prune(db, -90 * DAYS)
        assert await db.fetchval(until) == today()

    async def test_a_late_fact_is_counted_and_pruned_at_once(self, db: asyncpg.Connection) -> None:
        await prune(db, 30 * DAYS)
        await ended_tasks(db, 10, 35 * DAYS)
        before = await series(db)
        await fold(db)
        assert await count(db, "task_events") == 0
        assert await series(db) == before
        assert await unbalanced(db) == []

    @pytest.mark.parametrize("arguments", ["NULL", "now(), NULL"])
    async def test_not_everything_for_want_of_a_limit(
        self, db: asyncpg.Connection, arguments: str
    ) -> None:
        await ended_tasks(db, 3, 40 * DAYS)
        await fold(db)
        facts = await count(db, "task_events")
        with pytest.raises(asyncpg.NullValueNotAllowedError, match="Nothing was pruned"):
            await db.execute(f"SELECT metrics.prune_ledger({arguments})")
        assert await count(db, "task_events") == facts

    async def test_two_at_once(self, database_url: str, db: asyncpg.Connection) -> None:
        await ended_tasks(db, 10, 40 * DAYS)
        await fold(db)
        other = await asyncpg.connect(database_url)
        async with db.transaction():
            assert await prune_once(db, 30 * DAYS, 5) == 5
            assert await prune_once(other, 30 * DAYS, 5) is None
        assert await prune_once(other, 30 * DAYS, 5) == 5
        await other.close()

    async def test_a_new_limit_waits_for_the_fold_that_goes_by_the_old(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        await ended_tasks(db, 5, 40 * DAYS)
        folding = await asyncpg.connect(database_url)
        transaction = folding.transaction()
        await transaction.start()
        await fold(folding)
        pruning = asyncio.create_task(prune(db, 30 * DAYS))
        await eventually(lambda: is_waiting(folding))
        await transaction.commit()
        assert await pruning == 10
        assert await unbalanced(db) == []
        await folding.close()

    async def test_an_old_snapshot_sees_what_it_saw(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        name = await make_day(db, (today() - 40 * DAYS).date())
        await ended_tasks(db, 100, 40 * DAYS)
        await fold(db)
        reader = await asyncpg.connect(database_url)
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            before = await series(reader)
            await prune(db, 30 * DAYS, 30)
            await db.fetch("SELECT metrics.drop_partitions()")
            assert await series(reader) == before
            assert await unbalanced(reader) == []
            assert await count(reader, "task_events") == 200
        assert await count(db, name) == 0
        await reader.close()

    async def test_a_killed_pruner_leaves_whole_batches(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        await ended_tasks(db, 50, 40 * DAYS)
        await fold(db)
        pruner = await asyncpg.connect(database_url)
        await prune_once(pruner, 30 * DAYS, 30)
        transaction = pruner.transaction()
        await transaction.start()
        await prune_once(pruner, 30 * DAYS, 30)
        await db.execute("SELECT pg_terminate_backend($1)", pruner.get_server_pid())
        await eventually(lambda: _returns(lambda: prune(db, 30 * DAYS), 70))
        assert await unbalanced(db) == []
        pruner.terminate()

    async def test_rows_that_moved_are_found(self, db: asyncpg.Connection) -> None:
        """Where the next batch begins is a hint: CLUSTER or a restore lays rows out anew."""
        name = await make_day(db, (today() - 40 * DAYS).date())
        await ended_tasks(db, 500, 40 * DAYS)
        await fold(db)
        assert await prune_once(db, 30 * DAYS, 600) == 600
        await db.execute(f"VACUUM FULL {name}")
        assert await prune(db, 30 * DAYS) == 400
        assert await unbalanced(db) == []


async def _returns(call: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await call() == wanted


class TestDropPartitions:
    async def dropped(self, db: asyncpg.Connection, grace: timedelta = timedelta()) -> list[str]:
        return [r[0] for r in await db.fetch("SELECT metrics.drop_partitions($1)", grace)]

    async def test_when_they_have_been_empty_for_long_enough(self, db: asyncpg.Connection) -> None:
        old = await make_day(db, (today() - 40 * DAYS).date())
        edge = await make_day(db, (today() - 31 * DAYS).date())
        await make_day(db, (today() - 30 * DAYS).date())
        await ended_tasks(db, 10, 40 * DAYS)
        await fold(db)
        assert await self.dropped(db) == []
        assert await prune_once(db, 30 * DAYS, 10) == 10
        assert await self.dropped(db) == []
        await prune(db, 30 * DAYS)
        assert await self.dropped(db, DAYS) == []
        assert await self.dropped(db) == [old, edge]
        assert await count(db, "metrics.pruned_partitions") == 0

    async def test_not_when_facts_were_put_back(self, db: asyncpg.Connection) -> None:
        old = await make_day(db, (today() - 40 * DAYS).date())
        await ended_tasks(db, 10, 40 * DAYS)
        await fold(db)
        await db.execute(f"CREATE TABLE kept AS TABLE {old}")
        await prune(db, 30 * DAYS)
        await db.execute(f"INSERT INTO {old} SELECT * FROM kept")
        assert await self.dropped(db) == []
        assert await prune(db, 30 * DAYS) == 20
        assert await self.dropped(db) == [old]

    async def test_not_while_somebody_reads_them(
        self, database_url: str, db: asyncpg.Connection
    ) -> None:
        old = await make_day(db, (today() - 40 * DAYS).date())
        await prune(db, 30 * DAYS)
        reader = await asyncpg.connect(database_url)
        async with reader.transaction():
            await reader.fetch("SELECT * FROM task_events")
            assert await self.dropped(db) == []
        assert await self.dropped(db) == [old]
        await reader.close()


async def test_a_role_without_rights_may_not(db: asyncpg.Connection) -> None:
    await db.execute("DROP ROLE IF EXISTS ains_test_nobody")
    await db.execute("CREATE ROLE ains_test_nobody")
    try:
        await db.execute("GRANT USAGE ON SCHEMA metrics TO ains_test_nobody")
        await db.execute("SET ROLE ains_test_nobody")
        for call in ("make_partitions()", "prune_ledger(now())", "drop_partitions()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute(f"SELECT metrics.{call}")
        await db.execute("RESET ROLE")
        await db.execute(
            "GRANT EXECUTE ON FUNCTION metrics.make_partitions, metrics.prune_ledger, "
            "metrics.drop_partitions TO ains_test_nobody"
        )
        await make_day(db, (today() - 40 * DAYS).date())
        await db.execute("SET ROLE ains_test_nobody")
        assert len(await db.fetch("SELECT metrics.make_partitions()")) == 24
        await prune(db, 30 * DAYS)
        assert len(await db.fetch("SELECT metrics.drop_partitions('0')")) == 1
        await db.execute("RESET ROLE")
    finally:
        await db.execute("RESET ROLE")
        await db.execute("DROP OWNED BY ains_test_nobody")
        await db.execute("DROP ROLE ains_test_nobody")
