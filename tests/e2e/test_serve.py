"""`ains serve` from its first line to its last."""

import asyncio
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import asyncpg
import pytest

from ains.db.embedded import describe, temporary_data_dir
from tests.support.databases import Databases, eventually, with_database
from tests.support.live import free_port
from tests.support.load import Load
from tests.support.recount import differences, impossible_histories
from tests.support.rows import add_agent
from tests.support.serving import Server, ains, serving

TASK = {"client_id": "a", "task_type": "t", "capability_required": "x", "input_data": {}}


@asynccontextmanager
async def stuck_request(server: Server, db: asyncpg.Connection) -> AsyncIterator[asyncio.Task[int]]:
    """A heartbeat that waits, until the end of the block, for a row that is locked."""
    agent = await add_agent(db)
    beat = {"timestamp": 1, "status": "ACTIVE", "uptime_ms": 1}

    async def send() -> int:
        async with server.http.post(
            f"{server.url}/ains/agents/{agent}/heartbeat", json=beat
        ) as response:
            assert response.headers.get("Connection") == "close"
            return response.status

    async def waits() -> bool:
        waiting: bool = await db.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        return waiting

    async with db.transaction():
        await db.execute("SELECT FROM agents FOR UPDATE")
        request = asyncio.create_task(send())
        await eventually(waits)
        yield request


async def test_embedded_server_is_the_default_and_leaves_with_it() -> None:
    psql = shutil.which("psql")
    with temporary_data_dir() as place:
        async with serving(data_dir=str(place), log_level="warning") as server:
            lines = server.output.splitlines()
            assert len(lines) == 1
            for part in (server.url, f"{server.url}/docs", f"{server.url}/metrics"):
                assert f" {part} " in lines[0]
            command = shlex.split(lines[0].partition("database: ")[2])
            password = (place / "pgpass").read_text().strip().rpartition(":")[2]
            assert password not in lines[0]
            if psql:
                done = subprocess.run(
                    [*command, "-Atc", "SELECT value FROM metrics.ains_agents_total"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert (done.stdout, done.stderr) == ("0\n", "")
            assert describe(place).pid is not None
            assert await server.stop() == 0
            assert describe(place).pid is None, "the embedded server is still there"


async def test_taken_port_is_one_sentence(database_url: str) -> None:
    port = free_port()
    async with serving(port=port, database_url=database_url):
        second = ains("serve", "--port", str(port), database_url=database_url)
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr == (
        f"Error: Port {port} of 127.0.0.1 is taken by another program. "
        "End that, or choose another port with --port or AINS_PORT.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1 is no address of this machine"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid is no address"),
    ],
)
def test_host_that_is_not_ours_is_one_sentence(arguments: list[str], said: str) -> None:
    done = ains("serve", *arguments, database_url="postgresql://127.0.0.1:1/d")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_mistyped_setting_is_named_with_the_right_one() -> None:
    done = ains("serve", prot="1234", database_url="postgresql://u:s3cret@127.0.0.1:1/d")
    assert done.returncode == 2
    assert "AINS_PROT" in done.stderr
    assert "AINS_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


async def test_waits_for_its_database_and_migrates_it(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        name = f"{dsn.rpartition('/')[2]}_late"
        async with serving(ready=False, database_url=with_database(dsn, name)) as server:
            await server.until("/health", 200)
            for path in ("/health/ready", "/health/startup", "/health/detail", "/ains/agents"):
                status, headers, _ = await server.get(path)
                assert status == 503, path
                assert path == "/health/detail" or int(headers["Retry-After"]) >= 1
            status, _, text = await server.get("/metrics")
            assert status == 200
            assert "\nains_up 0.0\n" in text
            assert "ains_tasks_in_queue" not in text
            assert "is ready" not in server.output
            connection = await asyncpg.connect(dsn)
            await connection.execute(f"CREATE DATABASE {name}")
            await server.until("/health/ready", 200)
            assert (await server.get("/ains/agents"))[0] == 200
            assert "is ready" in server.output
            assert await server.stop() == 0
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def test_database_of_a_newer_ains_ends_it(database_url: str, db: asyncpg.Connection) -> None:
    await db.execute("UPDATE ains_schema_version SET version_num = '9999'")
    done = await asyncio.to_thread(
        ains, "serve", "--port", str(free_port()), database_url=database_url
    )
    assert done.returncode == 2
    assert "9999" in done.stderr
    assert "Traceback" not in done.stderr


async def test_signal_under_load_breaks_no_request(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with serving(database_url=database_url, access_log="off") as server:
        load = Load([server.url], clients=12)
        async with load.running():
            await load.until_accepted(100)
            server.send(signal.SIGTERM)
            assert await server.ended() == 0
            # aiohttp's client sends a request again by itself when its connection was closed.
        assert set(load.broken) <= {"refused"}, load.broken
        assert set(load.answers) <= {200}, load.answers
        assert "Traceback" not in server.output
    rows = await db.fetch("SELECT task_id FROM tasks")
    assert load.accepted <= {str(row["task_id"]) for row in rows}
    assert await differences(db) == []
    assert await impossible_histories(db) == []


async def test_new_connections_at_the_end_are_answered_or_refused(database_url: str) -> None:
    """Also those that wait to be accepted: closing a listening socket would reset them."""
    outcomes: dict[str, int] = {}
    async with serving(database_url=database_url) as server:

        async def knock() -> None:
            while True:
                timeout = aiohttp.ClientTimeout(total=10)
                connector = aiohttp.TCPConnector(force_close=True)
                async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
                    try:
                        async with http.get(f"{server.url}/health") as response:
                            outcome = str(response.status)
                    except aiohttp.ClientConnectorError:
                        return
                    except aiohttp.ClientError as error:
                        outcome = repr(error)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1

        knockers = [asyncio.create_task(knock()) for _ in range(16)]
        await asyncio.sleep(0.2)
        server.send(signal.SIGTERM)
        await asyncio.gather(*knockers)
        assert await server.ended() == 0
    assert set(outcomes) == {"200"}, outcomes


async def test_request_under_way_is_finished(database_url: str, db: asyncpg.Connection) -> None:
    async with serving(database_url=database_url) as server:
        async with stuck_request(server, db) as request:
            server.send(signal.SIGTERM)
            await server.until("/health", 0)  # no new connections
            await asyncio.sleep(1.2)  # longer than silent connections are waited for
            assert server.process.poll() is None
        assert await request == 200
        assert await server.ended() == 0


async def test_request_that_takes_longer_than_the_grace_is_given_up(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with (
        serving(database_url=database_url, shutdown_grace="0.5") as server,
        stuck_request(server, db) as request,
    ):
        server.send(signal.SIGTERM)
        assert await server.ended(10) == 0
        with pytest.raises(aiohttp.ClientError):
            await request


async def test_second_signal_ends_it_at_once(database_url: str, db: asyncpg.Connection) -> None:
    async with (
        serving(database_url=database_url) as server,
        stuck_request(server, db) as request,
    ):
        server.send(signal.SIGINT)
        await server.until("/health", 0)
        server.send(signal.SIGINT)
        started = monotonic()
        assert await server.ended() == 128 + signal.SIGINT
        assert monotonic() - started < 1
        with pytest.raises(aiohttp.ClientError):
            await request


async def test_signal_while_the_embedded_server_starts_leaves_nothing_behind() -> None:
    with temporary_data_dir() as place:
        async with serving(ready=False, data_dir=str(place)) as server:

            async def begun() -> bool:
                return place.exists()

            await eventually(begun)
            server.send(signal.SIGTERM)
            assert await server.ended() == 0
            assert describe(place).pid is None
            assert "Traceback" not in server.output
            assert "is ready" not in server.output


async def test_process_without_workers_wakes_those_of_another(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with (
        serving(database_url=database_url, dispatch_interval="60"),
        serving("--no-workers", database_url=database_url) as front,
    ):

        async def listening() -> bool:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ains listener'"
            count: int = await db.fetchval(query + " AND datname = current_database()")
            return count == 1

        await eventually(listening)
        await add_agent(db)
        async with front.http.post(f"{front.url}/aitp/tasks", json=TASK) as response:
            assert (await response.json())["status"] == "PENDING"

        async def assigned() -> bool:
            found: str = await db.fetchval("SELECT status FROM tasks")
            return found == "ASSIGNED"

        await eventually(assigned, seconds=10)


async def test_detail_tells_of_everything(database_url: str, db: asyncpg.Connection) -> None:
    async with serving(database_url=database_url) as server:
        await add_agent(db)
        async with server.http.post(f"{server.url}/ains/tasks", json=TASK) as response:
            assert response.status == 200
        async with server.http.get(f"{server.url}/health/detail") as response:
            detail = await response.json()
        assert response.status == 200
        assert detail["status"] == "healthy"
        assert detail["agents"]["active"] == 1
        assert detail["tasks"]["assigned"] == 1
        assert detail["webhooks"] == {"deliveries_pending": 0}
        names = {worker["name"] for worker in detail["dispatcher"]["workers"]}
        assert names >= {"dispatcher", "sweeper", "folder"}


async def test_what_changes_a_task_wakes_who_delivers(
    database_url: str, db: asyncpg.Connection
) -> None:
    """Not only the workers that look for themselves, and those look seldom here."""
    async with serving(
        database_url=database_url, ready=True, dispatch_interval="60", sweep_interval="60"
    ) as server:

        async def rounds() -> int:
            async with server.http.get(f"{server.url}/health/detail") as response:
                workers = (await response.json())["dispatcher"]["workers"]
            found: int = {worker["name"]: worker["rounds"] for worker in workers}["webhooks"]
            return found

        async with server.http.post(f"{server.url}/ains/tasks", json=TASK) as response:
            task = (await response.json())["task_id"]
        before, started = await rounds(), monotonic()
        for priority in (1, 2, 3, 4) * 5:
            change = f"{server.url}/aitp/tasks/{task}/priority?client_id=a&new_priority={priority}"
            async with server.http.put(change) as response:
                assert response.status == 200, await response.text()
            await asyncio.sleep(0.15)
        by_itself = (monotonic() - started) / 0.5 + 1
        assert await rounds() - before > by_itself + 8
