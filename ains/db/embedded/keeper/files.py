"""What the files of a server tell about who is alive. Standard library only: the keeper runs it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Postmaster(NamedTuple):
    """What ``postmaster.pid`` says (src/include/utils/pidfile.h of PostgreSQL)."""

    pid: int
    port: int | None
    ready: bool


def read_postmaster(pgdata: Path) -> Postmaster | None:
    """Read ``postmaster.pid`` of a cluster; None when there is none. It may be stale."""
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
        # It is written line by line while the server starts: the last ones may be missing yet.
        pid, _pgdata, _started, port, _socket, _address, _memory, status = (lines + [""] * 8)[:8]
        # A server in single-user mode has a negative number.
        return Postmaster(abs(int(pid)), int(port) if port else None, status.strip() == "ready")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def is_postmaster(pid: int, pgdata: Path) -> bool:
    """Whether the process ``pid`` serves ``pgdata``, and isn't another one that got its number."""
    try:
        if sys.platform != "linux":
            return _names(_command_by_ps(pid), pgdata)
        try:
            return Path(f"/proc/{pid}/cwd").samefile(pgdata)  # where a postmaster stays
        except PermissionError:
            # Root in a container, without CAP_SYS_PTRACE, may not look at another user's.
            return _names(Path(f"/proc/{pid}/cmdline").read_bytes(), pgdata)
    except OSError:
        return False


def _command_by_ps(pid: int) -> bytes:
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=False).stdout


def _names(command: bytes, pgdata: Path) -> bool:
    return b"postgres" in command and os.fsencode(pgdata) in command


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on the file ``path``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def live_owners(owners: Path) -> list[int]:
    """The process ids of those who own the server now."""
    try:
        files = list(owners.iterdir())
    except FileNotFoundError:
        return []
    return sorted(int(file.name.partition("-")[0]) for file in files if is_locked(file))
