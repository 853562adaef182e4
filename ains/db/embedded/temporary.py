"""Data directories for tests, also of tests that root runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ains.db.embedded.errors import DataDirUnusable
from ains.db.embedded.keeper.files import is_locked
from ains.db.embedded.privileges import Account, account_for, check_reachable

__all__ = ["temporary_data_dir"]

_PREFIX = "ains-tmp-"
_LOCK = "lock"
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp is safe there
_LEAST_MEMORY_BYTES = 2 * 2**30
_STALE_SECONDS = 60.0
_REMOVE_SECONDS = 10.0


@contextmanager
def temporary_data_dir(name: str = "data") -> Iterator[Path]:
    """Lend a path ``…/<name>`` for a data directory, and remove what came to be there.

    pytest's `tmp_path` won't do for root: it lies in a directory that is closed to all others, the
    account that PostgreSQL runs as among them. In memory where there is plenty (copying a cluster
    takes 0.08 s there, on a disk 0.5 s). What a killed process left behind is removed by the next.

    Raises:
        DataDirUnusable: that account can enter none of the directories for temporary files.
    """
    base = _make()
    lock = os.open(base / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield base / name
    finally:
        # A server that still runs there, because a test failed, stops when its files are gone.
        deadline = time.monotonic() + _REMOVE_SECONDS
        while base.exists() and time.monotonic() < deadline:
            shutil.rmtree(base, ignore_errors=True)
            time.sleep(0 if not base.exists() else 0.05)
        os.close(lock)


def _make() -> Path:
    account = account_for(Path("/nonexistent"))
    problem: DataDirUnusable | None = None
    for parent in _parents():
        with suppress(OSError):
            _remove_leftovers(parent)
            base = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
            try:
                _let_in(account, base)
                return base
            except DataDirUnusable as error:
                problem = error
                base.rmdir()
    raise problem or DataDirUnusable("There is no directory for temporary files.")


def _parents() -> Iterator[Path]:
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _LEAST_MEMORY_BYTES:
        yield _MEMORY
    yield Path(tempfile.gettempdir())
    yield from (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - where TMPDIR is somebody's own


def _let_in(account: Account | None, base: Path) -> None:
    if account is not None:
        base.chmod(0o711)
        check_reachable(base, account)


def _remove_leftovers(parent: Path) -> None:
    for base in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = base.stat()
            # A new one may not have been locked yet.
            old = time.time() - status.st_mtime > _STALE_SECONDS
            if old and status.st_uid == os.geteuid() and not is_locked(base / _LOCK):
                shutil.rmtree(base, ignore_errors=True)
