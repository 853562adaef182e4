"""What `describe` tells about a data directory."""

import os
from pathlib import Path

import pytest

from ains.db.embedded import EmbeddedPostgres, Status, describe
from ains.db.embedded.keeper.files import is_postmaster
from tests.support.embedded import owner_process

pytestmark = pytest.mark.embedded


def test_a_directory_that_does_not_exist_yet_is_no_problem_and_stays_so(empty_dir: Path) -> None:
    assert describe(empty_dir) == Status(empty_dir)
    assert not empty_dir.exists()


async def test_a_running_server_and_its_owners(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        with owner_process(data_dir) as other:
            assert other.told["pid"] == server.pid
            status = describe(data_dir)
        assert status.initialised
        assert status.version == (data_dir / "pgdata" / "PG_VERSION").read_text().strip()
        assert (status.pid, status.port) == (server.pid, server.port)
        assert set(status.owners) == {os.getpid(), other.pid}
        assert status.problem is None
        assert server.port is not None
    after = describe(data_dir)
    assert (after.pid, after.port, after.owners) == (None, server.port, ())
    assert after.initialised
    assert after.problem is None


async def test_root_without_the_right_to_look_at_others_knows_a_server_from_a_stranger(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        assert server.pid is not None

        def forbidden(*_: object) -> bool:
            raise PermissionError  # as in a container without CAP_SYS_PTRACE

        monkeypatch.setattr(Path, "samefile", forbidden)
        assert is_postmaster(server.pid, data_dir / "pgdata")
        assert not is_postmaster(server.pid, data_dir / "another")
        assert not is_postmaster(os.getpid(), data_dir / "pgdata")


def test_problems_are_those_that_a_start_would_meet(data_dir: Path) -> None:
    assert describe(data_dir).problem is None
    (data_dir / "pgdata" / "PG_VERSION").write_text("14\n")
    assert "was made by PostgreSQL 14" in str(describe(data_dir).problem)
    assert "AINS_PG_BIN can't be used" in str(describe(data_dir, Path("/nonexistent")).problem)


def test_a_full_disk_is_a_problem(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ains.db.embedded.status._LEAST_FREE_BYTES", 2**60)
    assert "MB are free" in str(describe(data_dir).problem)


async def test_a_missing_password_file_is_a_problem(data_dir: Path) -> None:
    async with await EmbeddedPostgres.start(data_dir, fast=True):
        (data_dir / "pgpass").rename(data_dir / "kept")
        assert "pgpass" in str(describe(data_dir).problem)
        (data_dir / "kept").rename(data_dir / "pgpass")
