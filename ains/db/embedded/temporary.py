"""Data directories for tests, also of tests that root runs."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ains.db.embedded.errors import DataDirUnusable
from ains.db.embedded.layout import Layout
from ains.db.embedded.privileges import account_for, check_reachable

__all__ = ["temporary_data_dir"]

_REMOVE_SECONDS = 10.0


@contextmanager
def temporary_data_dir(name: str = "data") -> Iterator[Path]:
    """Lend a path ``…/<name>`` for a data directory, and remove what came to be there.

    pytest's `tmp_path` won't do for root: it lies in a directory that is closed to all others, the
    account that PostgreSQL runs as among them.

    Raises:
        DataDirUnusable: that account can enter none of the directories for temporary files.
    """
    base = _make()
    try:
        yield base / name
    finally:
        # A server that still runs there, because a test failed, stops when its files are gone.
        deadline = time.monotonic() + _REMOVE_SECONDS
        while base.exists() and time.monotonic() < deadline:
            shutil.rmtree(base, ignore_errors=True)
            time.sleep(0 if not base.exists() else 0.05)


def _make() -> Path:
    account = account_for(Layout(Path("/nonexistent")).pgdata)
    problem: DataDirUnusable | None = None
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp is safe there
        with suppress(FileNotFoundError):
            base = Path(tempfile.mkdtemp(prefix="ains-", dir=parent))
            if account is None:
                return base.resolve()
            base.chmod(0o711)
            try:
                check_reachable(base, account)
                return base.resolve()
            except DataDirUnusable as error:
                problem = error
                base.rmdir()
    raise problem or DataDirUnusable("There is no directory for temporary files.")
