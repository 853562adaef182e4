"""Starting, sharing and stopping the embedded server."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ains.db.embedded import EmbeddedPostgres, PortTaken, find_binaries, temporary_data_dir
from ains.db.embedded.binaries import installed_majors
from tests.support.embedded import (
    OwnerProcess,
    alive,
    answers,
    eventually,
    fetchval,
    keeper_pid,
    owner_process,
)

pytestmark = pytest.mark.embedded

_ANOTHER_DATABASE = "SELECT datname FROM pg_database WHERE datname = 'ains'"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has batch processes")
async def test_the_server_and_its_sessions_do_not_interrupt_others(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        assert server.pid is not None
        assert os.sched_getscheduler(server.pid) == os.SCHED_BATCH
        connection = await asyncpg.connect(server.dsn)
        assert os.sched_getscheduler(connection.get_server_pid()) == os.SCHED_BATCH
        await connection.close()


@pytest.mark.parametrize("major", sorted(installed_majors()))
async def test_start_makes_a_durable_database_with_every_installed_version(
    empty_dir: Path, major: int
) -> None:
    directory = installed_majors()[major]
    async with await EmbeddedPostgres.start(empty_dir, pg_bin=directory) as server:
        connection = await asyncpg.connect(server.dsn)
        rows = await connection.fetch("SELECT name, setting FROM pg_settings")
        settings = {row["name"]: row["setting"] for row in rows}
        assert settings["server_version"].startswith(str(major))
        expected = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "jit": "off",
            "autovacuum_naptime": "5",
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": "100",
            "shared_buffers": "16384",
        }
        assert {name: settings[name] for name in expected} == expected
        assert await connection.fetchval("SELECT current_database()") == "ains"
        # Bytewise order, which no update of the system changes, and still upper and lower case.
        assert await connection.fetchval("SELECT 'B' < 'a' AND 'z' < 'ä'")
        assert await connection.fetchval("SELECT lower('ÄÉ') = 'äé'")
        await connection.close()


async def test_nobody_gets_in_without_the_password(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        url = urlsplit(server.dsn)
        assert len(url.password or "") >= 32
        for user in ("ains", "ains:", "ains:wrong", "postgres", "root"):
            guess = urlunsplit(url._replace(netloc=f"{user}@127.0.0.1:{server.port}"))
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
                await asyncpg.connect(guess, passfile="/nonexistent")
        for secret in (data_dir / "pgpass", data_dir / "pgdata", data_dir / "run"):
            assert secret.stat().st_mode & 0o077 == 0, secret


async def test_it_listens_on_the_loopback_only(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        socket.create_connection(("127.0.0.1", server.port)).close()
        # To all of 127.0.0.0/8 answers who listens on 0.0.0.0.
        for other in ("127.0.0.2", "::1"):
            with pytest.raises(OSError, match=r"refused|assign|unreachable|family"):
                socket.create_connection((other, server.port), timeout=5)


async def test_psql_gets_in_with_the_safe_dsn_alone(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        password = urlsplit(server.dsn).password
        assert password is not None
        assert password not in server.safe_dsn
        psql = find_binaries().program("psql")
        command = [psql, "-XAtc", "SELECT current_user", server.safe_dsn]
        said = await asyncio.to_thread(
            subprocess.run, command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert (said.stdout, said.stderr) == ("ains\n", "")
        assert await fetchval(server.safe_dsn, "SELECT 1") == 1


async def test_data_and_port_survive_a_restart(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir) as server:
        first = server.dsn
        await fetchval(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with await EmbeddedPostgres.start(data_dir) as server:
        assert server.dsn == first
        assert await fetchval(first, "SELECT answer FROM kept") == 42


async def test_nothing_runs_after_stop_and_a_second_stop_is_harmless(data_dir: Path) -> None:
    server = await EmbeddedPostgres.start(data_dir, fast=True)
    pid, keeper = server.pid, keeper_pid(data_dir)
    assert pid is not None
    await server.stop()
    assert not alive(pid)
    await eventually(lambda: not alive(keeper))
    assert not (data_dir / "pgdata" / "postmaster.pid").exists()
    await server.stop()


async def test_a_fast_shutdown_does_not_wait_for_connections(data_dir: Path) -> None:
    server = await EmbeddedPostgres.start(data_dir, fast=True)
    connection = await asyncpg.connect(server.dsn)
    transaction = connection.transaction()
    await transaction.start()
    await asyncio.wait_for(server.stop(), 10)
    await eventually(connection.is_closed)


async def test_a_taken_port_is_replaced_and_the_new_one_remembered(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        old = server.port
    with socket.create_server(("127.0.0.1", old)):
        async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
            new = server.port
            assert new != old
            assert f"Port {old} of PostgreSQL is taken; it has {new} now" in caplog.text
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        assert server.port == new


async def test_a_port_asked_for_is_used_or_refused(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} .*AINS_PG_PORT"):
            await EmbeddedPostgres.start(data_dir, port=port, fast=True)
    async with await EmbeddedPostgres.start(data_dir, port=port, fast=True) as server:
        assert server.port == port


async def test_two_processes_share_one_server_and_the_last_to_leave_stops_it(
    data_dir: Path,
) -> None:
    with owner_process(data_dir) as one, owner_process(data_dir) as two:
        assert one.told == two.told
        connection = await asyncpg.connect(two.told["dsn"])
        await asyncio.to_thread(one.leave)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        await asyncio.to_thread(two.leave)
        assert not alive(one.told["pid"])


async def test_four_processes_that_start_at_once_make_one_cluster(empty_dir: Path) -> None:
    owners = [OwnerProcess(empty_dir) for _ in range(4)]
    try:
        told = [owner.told for owner in owners]
        assert "error" not in told[0]
        assert all(one == told[0] for one in told)
        assert await fetchval(told[0]["dsn"], _ANOTHER_DATABASE) == "ains"
        assert not list(empty_dir.glob("pgdata.new-*"))
    finally:
        for owner in owners:
            owner.kill()
    await eventually(lambda: not alive(told[0]["pid"]))


async def test_four_data_directories_at_once_do_not_get_in_each_others_way(
    made_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All want the same port first: what the path decides otherwise.
    monkeypatch.setattr("ains.db.embedded.launch.zlib.crc32", lambda _: 1234)
    with temporary_data_dir() as base:
        base.mkdir(mode=0o755)
        places = [base / str(n) for n in range(4)]
        for place in places:
            subprocess.run(["cp", "-a", made_once, place], check=True)
        servers = await asyncio.gather(*(EmbeddedPostgres.start(p, fast=True) for p in places))
        try:
            assert len({server.port for server in servers}) == 4
            assert len({server.pid for server in servers}) == 4
            for server in servers:
                place = await fetchval(server.dsn, "SHOW data_directory")
                assert place == str(server.data_dir / "pgdata")
        finally:
            await asyncio.gather(*(server.stop() for server in servers))


async def test_a_cancelled_start_leaves_nothing_running(empty_dir: Path) -> None:
    starting = asyncio.create_task(EmbeddedPostgres.start(empty_dir, fast=True))
    await eventually(lambda: bool(list(empty_dir.glob("pgdata.new-*/base"))))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (empty_dir / "pgdata").exists()
    assert not (empty_dir / "pgdata" / "postmaster.pid").exists()
    assert not list((empty_dir / "run" / "owners").iterdir())


async def test_a_dbas_alter_system_wins_over_our_settings(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        await fetchval(server.dsn, "ALTER SYSTEM SET autovacuum_naptime = '7s'")
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        assert await fetchval(server.dsn, "SHOW autovacuum_naptime") == "7s"


async def test_a_lost_password_file_is_made_anew(data_dir: Path) -> None:
    old = (data_dir / "pgpass").read_text()
    (data_dir / "pgpass").unlink()
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        await answers(server.dsn)
    assert (data_dir / "pgpass").read_text() != old


async def test_a_dropped_database_is_made_again(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        url = urlsplit(server.dsn)
        await fetchval(urlunsplit(url._replace(path="/postgres")), "DROP DATABASE ains")
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        assert await fetchval(server.dsn, _ANOTHER_DATABASE) == "ains"


async def test_only_the_newest_logs_are_kept(data_dir: Path) -> None:
    logs = data_dir / "pgdata" / "log"
    for day in range(10, 30):
        (logs / f"postgresql-2020-01-{day}_000000.log").write_text("old\n")
    async with await EmbeddedPostgres.start(data_dir, fast=True):
        await eventually(lambda: len(list(logs.iterdir())) == 8)
        assert max(logs.iterdir()).read_text() != "old\n"
