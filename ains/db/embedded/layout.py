"""Where everything of one embedded server lies, and the files that its owners lock."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ains.db.embedded.errors import DataDirUnusable, EmbeddedError

__all__ = ["Layout", "Owner", "default_data_dir", "locked", "write_file"]

_ROOTS_HOME = Path("/var/lib/ains")
_POLL = 0.02


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The embedded server's place when AINS_DATA_DIR names none.

    ``/var/lib/ains`` for root, else ``ains`` in the data home of the XDG base directory
    specification (https://specifications.freedesktop.org/basedir-spec/latest/).

    Raises:
        DataDirUnusable: the user has no home directory.
    """
    if os.geteuid() == 0:
        return _ROOTS_HOME
    data_home = Path(environ.get("XDG_DATA_HOME", ""))
    if data_home.is_absolute():  # the specification: relative paths are to be ignored
        return data_home / "ains"
    try:
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError:
        raise DataDirUnusable(
            "This user has no home directory for the embedded PostgreSQL to live in. "
            "Set AINS_DATA_DIR to a directory, or AINS_DATABASE_URL to a server."
        ) from None
    return home / ".local" / "share" / "ains"


@dataclass(frozen=True)
class Layout:
    """The paths below one data directory, ``root``.

    The cluster itself belongs to the user that PostgreSQL runs as. Everything else belongs to
    whoever runs AINS, so that the account ``nobody`` can't plant files that root then trusts.
    """

    root: Path

    @property
    def pgdata(self) -> Path:
        """The cluster, PostgreSQL's data directory."""
        return self.root / "pgdata"

    @property
    def pgpass(self) -> Path:
        """The password, in the format of libpq's password file."""
        return self.root / "pgpass"

    @property
    def config(self) -> Path:
        """Our settings, which postgresql.conf includes."""
        return self.root / "ains.conf"

    @property
    def port(self) -> Path:
        """The port of the last start."""
        return self.root / "port"

    @property
    def run(self) -> Path:
        """What is of no use once nothing runs any more."""
        return self.root / "run"

    @property
    def start_lock(self) -> Path:
        """Held while the server is being started or stopped."""
        return self.run / "start.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper for as long as it lives; holds its process id."""
        return self.run / "keeper.lock"

    @property
    def owners(self) -> Path:
        """One locked file for each process that uses the server."""
        return self.run / "owners"

    @property
    def startup_log(self) -> Path:
        """What the server says before it writes its own log."""
        return self.run / "startup.log"

    @property
    def keeper_log(self) -> Path:
        """What the keeper says, if it ever fails."""
        return self.run / "keeper.log"

    def read_port(self) -> int | None:
        """The remembered port, None without one."""
        with suppress(OSError, ValueError):
            number = int(self.port.read_text())
            return number if 0 < number < 2**16 else None
        return None

    def read_password(self) -> str | None:
        """The password in the password file, None without one."""
        with suppress(OSError):
            found = re.search(
                r"^127\.0\.0\.1:\*:\*:ains:(.+)$", self.pgpass.read_text(), re.MULTILINE
            )
            # A person who puts another password there escapes it as libpq wants.
            return re.sub(r"\\(.)", r"\1", found[1]) if found else None
        return None

    def write_password(self) -> str:
        """Make a password and its file, which only this user can read; returns the password."""
        password = secrets.token_urlsafe(24)
        write_file(self.pgpass, f"127.0.0.1:*:*:ains:{password}\n", 0o600)
        return password


def write_file(path: Path, text: str, mode: int) -> None:
    """Replace ``path`` at once and for good: no reader, and no crash, ever sees half of it."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold the exclusive lock on the file ``path``; it ends with the process at the latest.

    Args:
        path: made when missing.
        deadline: on the clock of `time.monotonic`.

    Raises:
        EmbeddedError: somebody else held the lock until the deadline.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"Another process has been starting or stopping the server of "
                        f"{path.parent.parent} for too long. Look for it with: fuser {path}"
                    ) from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


class Owner:
    """This process's claim on the server: a file with its process id that it keeps locked.

    The kernel drops the lock when the process dies, however it dies. (A child made by fork()
    without exec() shares it.) Made and looked at for cleaning only under the start lock.
    """

    def __init__(self, layout: Layout) -> None:
        self._path = layout.owners / f"{os.getpid()}-{secrets.token_hex(4)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor: int | None = os.open(self._path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the claim up; a second time does nothing."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
