"""Who gets the next task."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

TTL = timedelta(seconds=60)


async def agents(db: asyncpg.Connection, count: int, **columns: str) -> None:
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature, tags, status,"
        f" last_heartbeat{names})"
        " SELECT 'a' || g, 'A', 'http://a', '00', '00', '{Sum}', 'AVAILABLE', now()"
        f"{values} FROM generate_series(1, $1) AS g",
        count,
    )


@asynccontextmanager
async def rolled_back(db: asyncpg.Connection) -> AsyncIterator[None]:
    """What is done here leaves no trace."""
    transaction = db.transaction()
    await transaction.start()
    yield
    await transaction.rollback()


async def route(db: asyncpg.Connection, strategy: str, places: int = 1) -> list[str]:
    rows = await db.fetch("SELECT * FROM route_agents('SUM', $1, $2, $3)", strategy, places, TTL)
    return [row["agent_id"] for row in sorted(rows, key=lambda row: row["place"])]


async def test_round_robin_takes_the_least_recently_assigned(db: asyncpg.Connection) -> None:
    await agents(db, 5)
    first = [(await route(db, "round_robin"))[0] for _ in range(5)]
    second = [(await route(db, "round_robin"))[0] for _ in range(5)]
    assert sorted(first) == [f"a{i}" for i in range(1, 6)]
    assert second == first


async def test_round_robin_deals_a_batch_evenly(db: asyncpg.Connection) -> None:
    await agents(db, 4)
    assert set(Counter(await route(db, "round_robin", 10)).values()) == {2, 3}


async def test_least_loaded_fills_the_gaps(db: asyncpg.Connection) -> None:
    await agents(db, 3)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id)"
        " SELECT 'c', 't', 'sum', 'ASSIGNED', a FROM unnest('{a1,a1,a2}'::text[]) AS a"
    )
    assert await route(db, "least_loaded") == ["a3"]
    assert Counter(await route(db, "least_loaded", 3)) == {"a3": 2, "a2": 1}


async def test_fastest_response_tries_the_untried_first(db: asyncpg.Connection) -> None:
    await agents(db, 3, avg_completion_time_seconds="nullif(g, 3)")
    assert await route(db, "fastest_response") == ["a3"]
    await db.execute("UPDATE agents SET avg_completion_time_seconds = 3 WHERE agent_id = 'a3'")
    assert await route(db, "fastest_response") == ["a1"]


ALL = {"round_robin": 31, "least_loaded": 127, "fastest_response": 127}
"""As many agents as are all looked at for a single task."""


async def load_all(db: asyncpg.Connection) -> None:
    """Every agent has two tasks, a1 none."""
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id)"
        " SELECT 'c', 't', 'sum', 'ASSIGNED', agent_id FROM agents, generate_series(1, 2)"
        " WHERE agent_id <> 'a1'"
    )


@pytest.mark.parametrize("strategy", ALL)
async def test_best_of_all_agents_is_found_while_there_are_not_too_many(
    db: asyncpg.Connection, strategy: str
) -> None:
    await agents(
        db,
        ALL[strategy],
        last_assigned_at="now() - CASE g WHEN 1 THEN interval '9 h' ELSE interval '1 h' END",
        avg_completion_time_seconds="g",
    )
    await load_all(db)
    for _ in range(30):
        async with rolled_back(db):
            assert await route(db, strategy) == ["a1"]


async def test_of_too_many_agents_the_best_of_a_sample_is_chosen(db: asyncpg.Connection) -> None:
    await agents(db, 200, avg_completion_time_seconds="g")
    await load_all(db)
    chosen = [int((await route(db, "fastest_response"))[0][1:]) for _ in range(40)]
    # That 32 of 200 are all of the slower half happens once in ten thousand million times.
    assert max(chosen) <= 100
    assert len(set(chosen)) > 1
    # Many are as good as the best here; a second task for one of them would be a poor choice.
    assert len(set(await route(db, "round_robin", 128))) == 128
    assert len(set(await route(db, "least_loaded", 120))) >= 119


async def test_turns_go_round_among_too_many_agents(db: asyncpg.Connection) -> None:
    await db.execute("SELECT setseed(0)")  # one draw in a thousand has a seven
    await agents(db, 200)
    turns = Counter([(await route(db, "round_robin"))[0] for _ in range(600)])
    assert len(turns) >= 190
    assert max(turns.values()) <= 6


@pytest.mark.parametrize(
    "strategy", ["round_robin", "least_loaded", "trust_weighted", "fastest_response"]
)
async def test_a_hundred_agents_are_looked_up_by_key(db: asyncpg.Connection, strategy: str) -> None:
    """Each compared with each of the choice, hundreds would cost more than thousands do."""
    await agents(db, 120)
    await db.execute("VACUUM (FULL, ANALYZE) agents, agent_routes")
    read = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'agents'"
    async with rolled_back(db):
        before = await db.fetchval(read)
        for _ in range(8):  # beyond the first plans, which know the choice
            assert await route(db, strategy)
        assert await db.fetchval(read) == before


async def test_trust_weighted_draws_in_proportion_to_trust(db: asyncpg.Connection) -> None:
    await agents(db, 3, trust_score="(ARRAY[0.2, 0.3, 0.9])[g]")
    drawn = Counter(await route(db, "trust_weighted", 2000))
    assert "a1" not in drawn  # below 0.3
    # Expected 1500 of 2000; seven standard deviations are 136.
    assert abs(drawn["a3"] - 1500) < 136


@pytest.mark.parametrize(
    "change",
    [
        "status = 'BUSY'",
        "status = 'SUSPENDED'",
        "tags = '{}'",
        "last_heartbeat = now() - interval '61 seconds'",
    ],
)
async def test_agent_that_cannot_work_gets_nothing(db: asyncpg.Connection, change: str) -> None:
    await agents(db, 1)
    assert await route(db, "round_robin") == ["a1"]
    await db.execute(f"UPDATE agents SET {change}")
    for strategy in ("round_robin", "least_loaded", "trust_weighted", "fastest_response"):
        assert await route(db, strategy) == []


async def test_published_capability_routes_until_it_is_deprecated(db: asyncpg.Connection) -> None:
    await agents(db, 1)
    await db.execute("UPDATE agents SET tags = '{}'")
    await db.execute(
        "INSERT INTO agent_capabilities (agent_id, name, description, input_schema, output_schema,"
        " pricing_model, price, latency_p99_ms, availability_percent, signature)"
        " VALUES ('a1', 'Sum', '', '{}', '{}', 'free', 0, 1, 100, '00')"
    )
    assert await route(db, "round_robin") == ["a1"]
    await db.execute("UPDATE agent_capabilities SET deprecated = true")
    assert await route(db, "round_robin") == []


async def test_agent_locked_by_somebody_else_is_passed_over_not_waited_for(
    db: asyncpg.Connection, database_url: str
) -> None:
    await agents(db, 2)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM agents WHERE agent_id = 'a1' FOR UPDATE")
            await db.execute("SET lock_timeout = '1s'")
            assert await route(db, "round_robin") == ["a2"]
            await other.execute("SELECT FROM agents FOR UPDATE")
            assert len(await route(db, "round_robin")) == 1  # rather a second task than none
    finally:
        await other.close()


async def test_more_agents_than_a_window_all_get_their_turn(db: asyncpg.Connection) -> None:
    await agents(db, 2000)
    chosen = Counter(await route(db, "round_robin", 100))
    for _ in range(99):
        chosen.update(await route(db, "round_robin", 100))
    assert len(chosen) > 1900
