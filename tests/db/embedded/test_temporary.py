"""Data directories for tests."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from ains.db.embedded import temporary_data_dir

pytestmark = pytest.mark.embedded

_LONG_AGO = 1_500_000_000


def test_a_temporary_data_directory_is_removed_with_all_that_came_to_be_there() -> None:
    with temporary_data_dir("here") as path:
        assert path.name == "here"
        (path / "pgdata").mkdir(parents=True)
    assert not path.parent.exists()


def test_what_killed_tests_left_behind_is_removed_and_what_others_use_is_not() -> None:
    with temporary_data_dir() as path:
        stale, used, new = (
            path.parent.with_name(f"ains-tmp-{n}") for n in ("stale", "used", "new")
        )
        try:
            for base in (stale, used, new):
                base.mkdir()
                (base / "lock").touch()
            lock = os.open(used / "lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for base in (stale, used):
                os.utime(base, (_LONG_AGO, _LONG_AGO))
            with temporary_data_dir():
                assert [base.exists() for base in (stale, used, new)] == [False, True, True]
            os.close(lock)
        finally:
            for base in (stale, used, new):
                shutil.rmtree(base, ignore_errors=True)


def test_a_directory_for_temporary_files_that_is_out_of_reach_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ains.db.embedded.temporary._MEMORY", Path("/nonexistent"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o700)
    with temporary_data_dir() as path:
        assert path.is_relative_to(tmp_path) == (os.geteuid() != 0)
    assert list(tmp_path.iterdir()) == []
