"""The embedded server and the processes around it, killed with -9."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from ains.db.embedded import EmbeddedPostgres, describe
from ains.db.embedded.privileges import account_for, process_options
from tests.support.embedded import (
    alive,
    answers,
    eventually,
    fetchval,
    keeper_pid,
    kill_9,
    owner_process,
    runnable_programs,
    wait_until,
)

pytestmark = pytest.mark.embedded


def _as_the_server(data_dir: Path) -> dict[str, Any]:
    return process_options(account_for(data_dir / "pgdata"))


def _fail() -> None:
    raise ValueError("a callback of somebody's")


@contextmanager
def _started_by_hand(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that nobody keeps, as one whose owner and keeper were killed together."""
    command = [runnable_programs().program("postgres"), "-D", str(data_dir / "pgdata")]
    options = ["-c", "port=20001", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    process = subprocess.Popen([*command, *options], cwd="/", **_as_the_server(data_dir))
    try:
        wait_until(lambda: describe(data_dir).pid == process.pid)
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_killed_owner_leaves_no_server_and_loses_nothing(data_dir: Path) -> None:
    with owner_process(data_dir) as owner:
        server, keeper = owner.told["pid"], keeper_pid(data_dir)
        await fetchval(owner.told["dsn"], "CREATE TABLE kept AS SELECT 42 AS answer")
        owner.kill()
        await eventually(lambda: not alive(server) and not alive(keeper))
    async with await EmbeddedPostgres.start(data_dir, fast=True) as again:
        assert await fetchval(again.dsn, "SELECT answer FROM kept") == 42


async def test_a_killed_owner_does_not_take_the_server_from_another(data_dir: Path) -> None:
    with owner_process(data_dir) as one, owner_process(data_dir) as two:
        assert one.told == two.told
        connection = await asyncpg.connect(two.told["dsn"])
        one.kill()
        await eventually(lambda: describe(data_dir).owners == (two.pid,))
        # Long enough for the keeper to have looked several times.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(eventually(connection.is_closed), 1)
        two.kill()
        await eventually(lambda: not alive(two.told["pid"]))


async def test_an_owner_killed_during_initdb_leaves_no_half_cluster(empty_dir: Path) -> None:
    with owner_process(empty_dir) as owner:
        await eventually(lambda: bool(list(empty_dir.glob("pgdata.new-*/base"))))
        initdb = psutil.Process(owner.pid).children(recursive=True)
        assert initdb
        owner.kill()
        for process in initdb:
            if process.is_running():
                process.kill()
    assert not (empty_dir / "pgdata").exists()
    async with await EmbeddedPostgres.start(empty_dir, fast=True) as server:
        await answers(server.dsn)
    assert not list(empty_dir.glob("*.new-*"))


async def test_a_killed_server_comes_back_by_itself(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        told: list[int | None] = []
        server.on_restart(_fail)
        server.on_restart(lambda: told.append(server.pid))
        dsn, pid = server.dsn, server.pid
        assert pid is not None
        await fetchval(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        kill_9(pid)
        await answers(dsn)
        assert await fetchval(dsn, "SELECT answer FROM kept") == 42
        await eventually(lambda: bool(told))
        assert server.restarts == 1
        assert told == [server.pid] != [pid]


async def test_a_killed_server_comes_back_while_its_owner_is_busy(data_dir: Path) -> None:
    with owner_process(data_dir) as owner:
        dsn = owner.told["dsn"]
        os.kill(owner.pid, signal.SIGSTOP)
        kill_9(owner.told["pid"])
        await answers(dsn)


async def test_a_killed_server_comes_back_once_for_two_owners(data_dir: Path) -> None:
    with owner_process(data_dir) as other:
        dsn = other.told["dsn"]
        async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
            kill_9(other.told["pid"])
            await answers(dsn)
            await eventually(lambda: server.restarts == 1)
            pid = server.pid
        assert pid is not None
        assert alive(pid)  # the other's still


async def test_a_killed_keeper_is_replaced(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        keeper = keeper_pid(data_dir)
        kill_9(keeper)
        await eventually(lambda: keeper_pid(data_dir) != keeper)
        await answers(server.dsn)
    assert describe(data_dir).pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
async def test_a_server_outlives_its_keeper_only_until_it_has_shut_down(data_dir: Path) -> None:
    with owner_process(data_dir) as owner:
        server = owner.told["pid"]
        os.kill(owner.pid, signal.SIGSTOP)  # lest it starts another
        kill_9(keeper_pid(data_dir))
        await eventually(lambda: not alive(server))
        assert not (data_dir / "pgdata" / "postmaster.pid").exists()


async def test_owner_keeper_and_server_killed_together_are_recovered_from(data_dir: Path) -> None:
    with owner_process(data_dir) as owner:
        await fetchval(owner.told["dsn"], "CREATE TABLE kept AS SELECT 42 AS answer")
        keeper = keeper_pid(data_dir)
        os.kill(owner.pid, signal.SIGSTOP)  # lest it starts another
        os.kill(keeper, signal.SIGSTOP)
        kill_9(owner.told["pid"])
        kill_9(keeper)
        owner.kill()
    assert (data_dir / "pgdata" / "postmaster.pid").exists()
    async with await EmbeddedPostgres.start(data_dir, fast=True) as again:
        assert await fetchval(again.dsn, "SELECT answer FROM kept") == 42


async def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(
    data_dir: Path,
) -> None:
    stranger = subprocess.Popen(["sleep", "60"], **_as_the_server(data_dir))
    try:
        pid_file = data_dir / "pgdata" / "postmaster.pid"
        pid_file.write_text(
            f"{stranger.pid}\n{data_dir}/pgdata\n1\n20001\n\n127.0.0.1\n 1 1\nready\n"
        )
        status = (data_dir / "pgdata").stat()
        os.chown(pid_file, status.st_uid, status.st_gid)
        async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
            await answers(server.dsn)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_killed_backend_costs_only_its_connections(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        connection = await asyncpg.connect(server.dsn)
        pid = server.pid
        kill_9(await connection.fetchval("SELECT pg_backend_pid()"))
        await eventually(connection.is_closed)
        await answers(server.dsn)
        assert server.pid == pid


async def test_a_server_without_a_keeper_is_adopted_and_stopped(data_dir: Path) -> None:
    with _started_by_hand(data_dir) as orphan:
        assert "adopts it" in str(describe(data_dir).problem)
        async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
            assert (server.pid, server.port) == (orphan.pid, 20001)
            await answers(server.dsn)
        orphan.wait(timeout=10)


async def test_an_adopted_server_is_restarted_like_any_other(data_dir: Path) -> None:
    with _started_by_hand(data_dir) as orphan:
        async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
            dsn = server.dsn
            orphan.kill()
            orphan.wait()
            await answers(dsn)
            assert server.pid != orphan.pid


async def test_the_server_ends_when_its_files_are_removed(data_dir: Path) -> None:
    server = await EmbeddedPostgres.start(data_dir, fast=True)
    pid = server.pid
    assert pid is not None
    subprocess.run(["rm", "-rf", data_dir], check=True)
    await eventually(lambda: not alive(pid))
    await server.stop()
    assert not data_dir.exists()
