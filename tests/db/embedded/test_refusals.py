"""What the embedded server says when it can't be started."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ains.db.embedded import (
    DataDirUnusable,
    EmbeddedPostgres,
    StartFailed,
    VersionMismatch,
    temporary_data_dir,
)
from ains.db.embedded.binaries import installed_majors
from tests.support.embedded import refused, runnable_programs

pytestmark = pytest.mark.embedded

# In blocks of 512 or 1024 bytes, as the shell has it: less than one segment of PostgreSQL's log.
_LARGEST_FILE = 64


@pytest.fixture
def programs_on_a_full_disk() -> Iterator[Path]:
    """PostgreSQL's real programs, which can't write large files."""
    with temporary_data_dir("bin") as directory:
        directory.mkdir(mode=0o755)
        for name in ("postgres", "initdb"):
            program = directory / name
            real = runnable_programs().program(name)
            program.write_text(f'#!/bin/sh\nulimit -f {_LARGEST_FILE}\nexec {real} "$@"\n')
            program.chmod(0o755)
        yield directory


async def test_a_cluster_of_another_major_version_is_refused_with_both_named(
    data_dir: Path, tmp_path: Path
) -> None:
    version = data_dir / "pgdata" / "PG_VERSION"
    current = version.read_text().strip()
    version.write_text("14\n")
    error = await refused(EmbeddedPostgres.start(data_dir))
    assert isinstance(error, VersionMismatch)
    for words in ("PostgreSQL 14", f"PostgreSQL {current}.", "AINS_PG_BIN", "pg_dump"):
        assert words in str(error)


async def test_a_version_that_is_installed_is_offered_to_go_on_with(data_dir: Path) -> None:
    majors = installed_majors()
    if len(majors) < 2:
        pytest.skip("install a second PostgreSQL: apt-get install postgresql")
    newest, other = sorted(majors, reverse=True)[:2]
    (data_dir / "pgdata" / "PG_VERSION").write_text(f"{other}\n")
    error = await refused(EmbeddedPostgres.start(data_dir, pg_bin=majors[newest]))
    assert f"set AINS_PG_BIN={majors[other]}" in str(error)


async def test_a_failed_start_ends_with_the_last_lines_of_the_log(data_dir: Path) -> None:
    with (data_dir / "pgdata" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = banana\n")
    error = await refused(EmbeddedPostgres.start(data_dir))
    assert isinstance(error, StartFailed)
    assert 'invalid value for parameter "shared_buffers": "banana"' in str(error)
    assert str(data_dir / "pgdata" / "log") in str(error)


async def test_files_without_permission_are_named(data_dir: Path) -> None:
    (data_dir / "pgdata" / "global").chmod(0)
    error = await refused(EmbeddedPostgres.start(data_dir))
    assert isinstance(error, StartFailed)
    assert re.search(r"global.*Permission denied", str(error))


async def test_a_disk_that_fills_up_during_initdb_is_reported_and_leaves_no_half_cluster(
    empty_dir: Path, programs_on_a_full_disk: Path
) -> None:
    error = await refused(EmbeddedPostgres.start(empty_dir, pg_bin=programs_on_a_full_disk))
    assert isinstance(error, StartFailed)
    assert "initdb" in str(error)
    assert re.search(r"File (size limit|too large)", str(error))
    assert not (empty_dir / "pgdata").exists()
    assert not list(empty_dir.glob("*.new-*"))
    async with await EmbeddedPostgres.start(empty_dir, fast=True):  # when there is room again
        pass


async def test_a_disk_that_is_full_at_the_start_is_reported(
    data_dir: Path, programs_on_a_full_disk: Path
) -> None:
    error = await refused(EmbeddedPostgres.start(data_dir, pg_bin=programs_on_a_full_disk))
    assert isinstance(error, StartFailed)
    assert "File too large" in str(error)


async def test_a_directory_with_other_peoples_files_is_not_touched(empty_dir: Path) -> None:
    empty_dir.mkdir(mode=0o755)
    (empty_dir / "holiday.jpg").write_text("sea")
    error = await refused(EmbeddedPostgres.start(empty_dir))
    assert isinstance(error, DataDirUnusable)
    assert "holiday.jpg" in str(error)
    assert [path.name for path in empty_dir.iterdir()] == ["holiday.jpg"]
    assert empty_dir.stat().st_mode & 0o777 == 0o755


async def test_a_file_in_place_of_the_directory_is_refused(empty_dir: Path) -> None:
    empty_dir.write_text("")
    error = await refused(EmbeddedPostgres.start(empty_dir))
    assert isinstance(error, DataDirUnusable)
    assert str(empty_dir) in str(error)


async def test_a_damaged_cluster_is_refused(data_dir: Path) -> None:
    (data_dir / "pgdata" / "PG_VERSION").unlink()
    error = await refused(EmbeddedPostgres.start(data_dir))
    assert isinstance(error, DataDirUnusable)
    assert "not a database of PostgreSQL" in str(error)


async def test_a_wrong_password_file_is_named(data_dir: Path) -> None:
    (data_dir / "pgpass").write_text("127.0.0.1:*:*:ains:another\n")
    error = await refused(EmbeddedPostgres.start(data_dir, fast=True))
    assert f"The password in {data_dir / 'pgpass'} is not" in str(error)
    assert "another" not in str(error)
    # And it isn't left running by the failed start.
    assert not (data_dir / "pgdata" / "postmaster.pid").exists()


async def test_an_earlier_failure_does_not_stand_in_the_way(data_dir: Path) -> None:
    config = data_dir / "pgdata" / "postgresql.conf"
    good = config.read_text()
    config.write_text(good + "\nport = nonsense\n")
    await refused(EmbeddedPostgres.start(data_dir))
    config.write_text(good)
    async with await EmbeddedPostgres.start(data_dir, fast=True):
        pass
