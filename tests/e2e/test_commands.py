"""The subcommands that do something and end."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ains import __version__
from ains.commands.db import split_password
from ains.db.embedded import EmbeddedPostgres, describe, temporary_data_dir
from ains.db.migrations import head
from tests.support.databases import Databases
from tests.support.live import free_port
from tests.support.rows import add_agent, add_task
from tests.support.serving import ains, serving

SECRET = "s3cr3t-w0rd"
AWAY = f"postgresql://ains:{SECRET}@127.0.0.1:1/ains"
needs_psql = pytest.mark.skipif(
    shutil.which("psql") is None, reason="apt-get install postgresql-client"
)


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_data_dir() as directory:
        yield directory


def test_help_names_every_command() -> None:
    text = ains("--help").stdout
    for command in ("serve", "migrate", "metrics", "prune", "doctor", "db"):
        assert f"\n  {command} " in text
    assert ains("--version").stdout == f"ains, version {__version__}\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["migrate"], 1),
        (["metrics"], 1),
        (["prune"], 1),
        (["doctor"], 1),
        (["db", "url"], 0),
        pytest.param(["db", "psql"], 2, marks=needs_psql),
    ],
    ids=["migrate", "metrics", "prune", "doctor", "db url", "db psql"],
)
def test_absent_database_is_told_without_its_password(command: list[str], code: int) -> None:
    done = ains(*command, database_url=AWAY, port=str(free_port()))
    assert done.returncode == code, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "can't be" in done.stdout + done.stderr or command not in (["migrate"], ["doctor"])


def test_mistyped_setting_ends_with_2() -> None:
    done = ains("metrics", databse_url="x")
    assert done.returncode == 2
    assert "AINS_DATABASE_URL" in done.stderr


async def test_migrate_says_from_where_to_where(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        first = await asyncio.to_thread(ains, "migrate", database_url=dsn)
        second = await asyncio.to_thread(ains, "migrate", "--database-url", dsn)
    assert first.stdout == f"The schema is {head()} now; before, it was not there.\n"
    assert second.stdout == f"The schema is up to date ({head()}).\n"
    assert (first.returncode, second.returncode) == (0, 0)


async def test_metrics_prints_what_a_scrape_shows(
    database_url: str, db: asyncpg.Connection
) -> None:
    await add_agent(db)
    await add_task(db, task_type="naïve")
    done = await asyncio.to_thread(ains, "metrics", database_url=database_url)
    assert (done.returncode, done.stderr) == (0, "")
    families = {f.name: f for f in text_string_to_metric_families(done.stdout)}
    assert families["ains_up"].samples[0].value == 1
    assert families["ains_tasks_created"].samples[0].labels["task_type"] == "naïve"
    assert "ains_application_info" in families
    assert "ains_http_requests" not in families


async def test_metrics_prints_one_family_or_openmetrics(database_url: str) -> None:
    one, other = await asyncio.gather(
        asyncio.to_thread(
            ains, "metrics", "--name", "ains_agents_total", database_url=database_url
        ),
        asyncio.to_thread(ains, "metrics", "--openmetrics", database_url=database_url),
    )
    assert one.stdout.splitlines()[2:] == ["ains_agents_total 0.0"]
    assert other.stdout.endswith("# EOF\n")


async def test_embedded_database_is_used_beside_a_server_and_without(place: Path) -> None:
    settings = {"data_dir": str(place)}
    absent = await asyncio.to_thread(ains, "metrics", **settings)
    assert absent.returncode == 1
    assert "There is no database" in absent.stderr
    assert not place.exists()
    async with serving(data_dir=str(place)) as server:
        beside = await asyncio.to_thread(ains, "metrics", **settings)
        url = await asyncio.to_thread(ains, "db", "url", **settings)
        assert (await server.get("/health/ready"))[0] == 200
        connection = await asyncpg.connect(url.stdout.strip())
        assert await connection.fetchval("SELECT current_user") == "ains"
        await connection.close()
        doctor = await asyncio.to_thread(ains, "doctor", port=server.url[-5:], **settings)
    assert doctor.returncode == 0, doctor.stdout
    assert f"serves at {server.url}" in doctor.stdout
    assert "1 process(es) with workers" in doctor.stdout
    alone = await asyncio.to_thread(ains, "metrics", **settings)
    gone = await asyncio.to_thread(ains, "db", "url", **settings)
    assert (beside.returncode, alone.returncode, gone.returncode) == (0, 0, 1)
    assert "ains_up 1.0" in beside.stdout
    assert "ains_up 1.0" in alone.stdout
    password = (place / "pgpass").read_text().strip().rpartition(":")[2]
    assert password not in "".join(d.stdout + d.stderr for d in (beside, url, doctor, alone))
    assert describe(place).pid is None


@needs_psql
async def test_psql_gets_in_without_asking(database_url: str, place: Path) -> None:
    query = ["db", "psql", "-Atc", "SELECT 6 * 7"]
    given = await asyncio.to_thread(ains, *query, database_url=database_url)
    assert (given.stdout, given.stderr, given.returncode) == ("42\n", "", 0)
    async with await EmbeddedPostgres.start(place, fast=True):
        embedded = await asyncio.to_thread(ains, *query, data_dir=str(place))
    assert (embedded.stdout, embedded.stderr) == ("42\n", "")
    failed = await asyncio.to_thread(
        ains, "db", "psql", "-c", "nonsense", database_url=database_url
    )
    assert failed.returncode == 1


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://u:p%40@h:1/d", ("postgresql://u@h:1/d", "p@")),
        ("postgresql://u@h/d?sslmode=require", ("postgresql://u@h/d?sslmode=require", None)),
        ("postgresql://u@h/d?password=p&x=1", ("postgresql://u@h/d?x=1", "p")),
        ("postgresql:///d?host=/run/pg", ("postgresql:///d?host=/run/pg", None)),
    ],
)
def test_password_is_taken_out_of_a_url(dsn: str, expected: tuple[str, str | None]) -> None:
    assert split_password(dsn) == expected


def test_doctor_lists_the_settings_when_one_is_wrong() -> None:
    done = ains("doctor", prot="1")
    assert done.returncode == 1
    assert "did you mean AINS_PORT" in done.stdout
    assert "AINS_SHUTDOWN_GRACE" in done.stdout
    listed = ains("doctor", "--settings", database_url=AWAY)
    assert listed.returncode == 0
    assert "AINS_SHUTDOWN_GRACE=25.0" in listed.stdout
    assert SECRET not in listed.stdout


def test_doctor_tells_of_programs_and_data_directory(place: Path) -> None:
    fresh = ains("doctor", data_dir=str(place), port=str(free_port()))
    assert fresh.returncode == 0, fresh.stdout
    assert "There is no database in" in fresh.stdout
    wrong_programs = ains("doctor", data_dir=str(place), pg_bin="/nonexistent")
    assert wrong_programs.returncode == 1
    assert "AINS_PG_BIN" in wrong_programs.stdout
