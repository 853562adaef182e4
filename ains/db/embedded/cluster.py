"""Makes the data directory and the cluster in it, and writes its settings."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from ains.db.embedded.binaries import Binaries, installed_majors
from ains.db.embedded.errors import DataDirUnusable, StartFailed, VersionMismatch
from ains.db.embedded.layout import Layout, write_file
from ains.db.embedded.privileges import Account, process_options, user_name

__all__ = ["check_version", "initialise", "prepare_data_dir", "reset_password", "write_settings"]

# Later lines of postgresql.conf and ALTER SYSTEM win over these.
_SETTINGS = """\
# Written by AINS at each start. To change a setting: ALTER SYSTEM SET name = value;
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '128MB'
jit = off                        # makes small queries slower by more than they take
autovacuum_naptime = '5s'        # queue tables turn over quickly
TimeZone = 'UTC'
log_timezone = 'UTC'
cluster_name = 'ains'
log_destination = 'stderr'
logging_collector = on           # to pgdata/log; AINS keeps the newest files
log_filename = 'postgresql-%Y-%m-%d_%H%M%S.log'
log_rotation_size = '10MB'
log_rotation_age = '1d'
log_checkpoints = off
log_line_prefix = '%m [%p] %q%u@%d '
"""
_DURABLE = """\
fsync = on
synchronous_commit = on
full_page_writes = on
"""
_FAST = """\
# For tests: data may be lost when the machine, though not when PostgreSQL, stops unexpectedly.
fsync = off
synchronous_commit = on
full_page_writes = off
"""
_INCLUDE = "\ninclude '../ains.conf'    # the settings of AINS; lines below win over them\n"
_STAGING = "pgdata.new-"
_LAST_LINES = 12
_BUILTIN_PROVIDER = 17
_NOT_OURS_BUT_HARMLESS = {"lost+found", ".DS_Store"}
_OURS = {"run", "pgdata", "pgpass", "ains.conf", "port", "postgresql"}


def environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: nothing of ours that could change what they do."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


def prepare_data_dir(layout: Layout) -> None:
    """Make the data directory, or see that an existing one is ours to use, and its ``run/``.

    Raises:
        DataDirUnusable: it can't be made, or holds something else.
    """
    root = layout.root
    try:
        made = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in root.iterdir()} - _NOT_OURS_BUT_HARMLESS
        if found and not found & _OURS:
            raise DataDirUnusable(
                f"{root} is not empty and holds no data of AINS ({min(found)}, for example). "
                "Set AINS_DATA_DIR to a directory that AINS may have for itself."
            )
        if made or not found:
            # PostgreSQL's own account has to pass through where root is in charge.
            root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        layout.run.mkdir(mode=0o700, exist_ok=True)
        if (uid := layout.run.stat().st_uid) != os.geteuid():
            raise DataDirUnusable(
                f"{root} is the data directory of AINS run as {user_name(uid)}. Run it as that "
                "user again, or set AINS_DATA_DIR to another directory."
            )
        layout.owners.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DataDirUnusable(
            f"The embedded PostgreSQL can't use {error.filename or root}: {error.strerror}. "
            "Set AINS_DATA_DIR to a directory that this user may write."
        ) from None


def check_version(layout: Layout, binaries: Binaries) -> None:
    """Make sure that ``binaries`` can run the cluster.

    Raises:
        VersionMismatch: it was made by another major version.
        DataDirUnusable: it isn't a cluster.
    """
    try:
        major = int((layout.pgdata / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise DataDirUnusable(
            f"{layout.pgdata} is not a database of PostgreSQL: {error}. Restore it from a backup, "
            "or remove it to start with an empty one."
        ) from None
    if major == binaries.major:
        return
    keep = f"install PostgreSQL {major} and set AINS_PG_BIN to the directory of its programs"
    if directory := installed_majors().get(major):
        keep = f"set AINS_PG_BIN={directory}"
    raise VersionMismatch(
        f"The database in {layout.pgdata} was made by PostgreSQL {major}, and "
        f"{binaries.directory} is PostgreSQL {binaries.version}, which can't read it. "
        f"To go on with {major}: {keep}. To change to {binaries.major}: start it so, pg_dump the "
        f"database, move {layout.pgdata} away, start AINS with {binaries.major}, and pg_restore."
    )


def initialise(
    layout: Layout, binaries: Binaries, account: Account | None, *, fast: bool = False
) -> None:
    """Make the cluster, completely or not at all: it gets its name when it is complete.

    ``fast`` doesn't wait for the disk.

    Raises:
        StartFailed: initdb failed; with what it said.
    """
    _remove_leftovers(layout)
    password = layout.read_password() or layout.write_password()
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=layout.root))
    secret, name = tempfile.mkstemp(prefix=_STAGING, dir=layout.root)
    try:
        with os.fdopen(secret, "w") as file:
            file.write(password)
        if account is not None:
            account.own(Path(name))
            account.own(staging)
        options = [
            *("--pgdata", str(staging), "--username=ains", f"--pwfile={name}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"),
            *_locale_options(binaries.major),
            *(["--no-sync"] if fast else []),
        ]
        _run_quietly([binaries.program("initdb"), *options], account)
        _append(staging / "postgresql.conf", _INCLUDE)
        staging.rename(layout.pgdata)
        _sync_directory(layout.root)
    finally:
        Path(name).unlink(missing_ok=True)
        if staging.exists():
            shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(layout: Layout) -> None:
    """Remove what a start that was cut off has left behind, passwords among it."""
    for stale in layout.root.glob(f"{_STAGING}*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)
    for stale in layout.root.glob(f".{layout.pgpass.name}.*"):
        stale.unlink(missing_ok=True)


def reset_password(layout: Layout, binaries: Binaries, account: Account | None) -> None:
    """Give the role `ains` a new password, for when the file has been lost. The server is down.

    Raises:
        StartFailed: PostgreSQL didn't do it; with what it said.
    """
    password = layout.write_password()
    command = [binaries.program("postgres"), "--single", "-D", str(layout.pgdata)]
    statement = f"ALTER ROLE ains PASSWORD '{password}'"
    try:
        _run_quietly([*command, "-c", "logging_collector=off", "postgres"], account, statement)
    except BaseException:
        layout.pgpass.unlink()
        raise


def write_settings(layout: Layout, *, fast: bool) -> None:
    """Write ``ains.conf``, which the server reads at its start."""
    settings = _SETTINGS + (_FAST if fast else _DURABLE)
    with suppress(FileNotFoundError):
        if layout.config.read_text() == settings:
            return  # a server should start on a full disk, too
    write_file(layout.config, settings, 0o644)


def _locale_options(major: int) -> list[str]:
    """A sort order that no update of the operating system can change under an index."""
    if major >= _BUILTIN_PROVIDER:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if platform.system() == "Linux":
        return ["--locale=C", "--lc-ctype=C.UTF-8"]
    return ["--locale=C"]


def _run_quietly(command: list[str], account: Account | None, text: str = "") -> None:
    result = subprocess.run(
        command,
        check=False,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd="/",
        env=environment(),
        start_new_session=True,  # Ctrl-C is for us to deal with
        umask=0o077,
        **process_options(account),
    )
    if result.returncode:
        said = "\n".join(result.stdout.strip().splitlines()[-_LAST_LINES:])
        raise StartFailed(f"{command[0]} failed (exit {result.returncode}):\n{said}")


def _append(path: Path, text: str) -> None:
    """Add ``text`` to a file of the cluster, which may belong to an account that we don't trust."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "a") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise StartFailed(f"{path} is not an ordinary file")
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
