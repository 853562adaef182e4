"""What the subcommands of `ains metrics` say, and how they end."""

import json

import asyncpg
import orjson
import pytest

from ains.metrics import database_collectors
from collectors.catalog import catalog
from collectors.explain import explain
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


async def test_database_that_a_command_is_told_wins_over_that_of_the_environment(
    some: None, database_url: str
) -> None:
    for command in (["verify"], ["explain", "ains_tasks_created_total"], []):
        told = ains("metrics", *command, "--database-url", database_url, metrics_database_url=AWAY)
        assert (told.returncode, told.stderr) == (0, ""), told
        not_told = ains("metrics", *command, database_url=database_url, metrics_database_url=AWAY)
        assert not_told.returncode > 0


async def test_verify_ends_with_2_without_a_schema(databases: Databases) -> None:
    async with databases.clone(empty=True) as empty:
        done = ains("metrics", "verify", database_url=empty)
    assert done.returncode == 2
    assert "ains migrate" in done.stderr


async def test_explain_shows_view_plans_and_what_is_behind(some: None, database_url: str) -> None:
    done = ains("metrics", "explain", "ains_task_queue_seconds_bucket", database_url=database_url)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    for part in (
        "ains_task_queue_seconds  histogram, in seconds",
        "task_type  Kind of work",
        "le = 0.005 0.01",
        "the task ledger",
        "42 series",
        "View metrics.ains_task_queue_seconds",
        "FROM metrics.series s",
        "table     task_events_open",
        "table     metrics.totals",
        "table     metrics.label_guards",
        "function  metrics.task_contributions(task_events_open[])",
        "A scrape, collector tasks, 1 of",
        "Buffers: shared hit=",
        "Execution Time: ",
    ):
        assert part in text, part
    assert "function  metrics.fold(" not in text  # which a message of a function mentions


async def test_whoever_may_scrape_may_ask_for_every_family(some: None, scraper_url: str) -> None:
    scraper = await asyncpg.connect(scraper_url)
    explained = [(e, await explain(scraper, e, database_collectors())) for e in catalog()]
    await scraper.close()
    for entry, found in explained:
        assert (found is None) == (entry.view is None)
        if found is not None:
            assert found.definition is not None, entry.family.name
            assert found.view_plan is not None
            assert found.scrape_plans
            assert any(used.kind == "table" for used in found.used), entry.family.name
            orjson.dumps(found.as_json())


def test_explain_of_what_the_process_counts_needs_no_database() -> None:
    done = ains("metrics", "explain", "ains_http_requests", "--database-url", AWAY)
    assert done.returncode == 0
    assert "HTTP middleware" in done.stdout


def test_explain_says_what_it_can_while_the_database_is_away() -> None:
    done = ains("metrics", "explain", "ains_chains_total", "--json", "--database-url", AWAY)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["name"], found["database"]) == ("ains_chains_total", None)
    assert found["reason"]


def test_explain_names_the_closest_families() -> None:
    done = ains("metrics", "explain", "ains_task_created_total", "--database-url", AWAY)
    assert done.returncode == 1
    assert "Closest: ains_tasks_created_total" in done.stderr
