"""What the subcommands of `ains metrics` say, and how they end."""

import json

import asyncpg
import pytest

from tests.support.databases import Databases
from tests.support.rows import add_agent, add_task
from tests.support.serving import ains

AWAY = "postgresql://ains:s3cr3t-w0rd@127.0.0.1:1/ains"


@pytest.fixture
async def some(db: asyncpg.Connection) -> None:
    """A few facts, folded."""
    await add_agent(db, "a")
    for number in range(3):
        await add_task(db, task_type=f"type-{number}")
    await db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a'")
    await db.execute("SELECT metrics.fold()")


async def test_verify_says_in_one_line_that_all_agree(some: None, database_url: str) -> None:
    done = ains("metrics", "verify", database_url=database_url)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    assert line.startswith("All agree: 6 facts (0 open), ")


async def test_verify_shows_differences_in_a_table(
    some: None, db: asyncpg.Connection, database_url: str
) -> None:
    await db.execute(
        "UPDATE metrics.totals SET n = 5"
        " WHERE family = 'ains_tasks_created_total' AND label_1 = 'type-1'"
    )
    done = ains("metrics", "verify", database_url=database_url)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["check", "series", "expected", "found"]
    series = 'ains_tasks_created_total{task_type="type-1",client_id="c"}'
    assert lines[1].split() == ["ledger", series, "1", "5"]
    assert any("When verify finds a difference" in line for line in lines)
    assert lines[-1].startswith("2 differences: 6 facts")

    as_json = ains("metrics", "verify", "--json", database_url=database_url)
    assert as_json.returncode == 1
    found = json.loads(as_json.stdout)
    assert found["clean"] is False
    assert found["differences"][0] == {
        "check": "ledger",
        "family": "ains_tasks_created_total",
        "labels": {"task_type": "type-1", "client_id": "c"},
        "part": "",
        "expected": "1",
        "found": "5",
    }
    assert {d["check"] for d in found["differences"]} == {"ledger", "invariant"}


def test_verify_ends_with_2_when_it_cannot_know() -> None:
    done = ains("metrics", "verify", "--json", "--database-url", AWAY)
    assert done.returncode == 2
    assert json.loads(done.stdout)["clean"] is None
    assert "Could not verify" in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr


async def test_verify_ends_with_2_without_a_schema(databases: Databases) -> None:
    async with databases.clone(empty=True) as empty:
        done = ains("metrics", "verify", database_url=empty)
    assert done.returncode == 2
    assert "ains migrate" in done.stderr
