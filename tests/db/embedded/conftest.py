"""Data directories for the tests of the embedded server."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir


@pytest.fixture(scope="session")
async def made_once() -> AsyncIterator[Path]:
    """A data directory with a cluster, not running. To be copied, not used."""
    with temporary_data_dir() as path:
        async with await EmbeddedPostgres.start(path, fast=True):
            pass
        shutil.rmtree(path / "run")
        (path / "port").unlink()
        yield path


@pytest.fixture
def data_dir(made_once: Path) -> Iterator[Path]:
    """A data directory with a cluster, not running."""
    with temporary_data_dir() as path:
        # Owners too; cp does in 50 ms what initdb takes 500 for.
        subprocess.run(["cp", "-a", made_once, path], check=True)
        yield path


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    """A path for a data directory that doesn't exist yet."""
    with temporary_data_dir() as path:
        yield path
