"""The keeper's life: see the package. Relative imports, because it runs as a package of its own."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypedDict

from .files import is_postmaster, live_owners, read_postmaster

READY = "ready"
FAILED = "failed"

_LOOK_SECONDS = 0.25
# Before each attempt to start a server that died: backends may outlive their postmaster a little.
_RESTART_DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_LOGS_KEPT = 8
_PRUNE_SECONDS = 60.0
# A fast shutdown writes a checkpoint; an immediate one only makes the next start replay the log.
_STOPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 15.0), (signal.SIGKILL, 5.0))
_PR_SET_PDEATHSIG = 1


class Spec(TypedDict):
    """What a keeper is told. Paths are absolute."""

    command: list[str]
    pgdata: str
    run: str
    user: tuple[int, int] | None
    """uid and gid to run the server as, None for the keeper's own."""


class Keeper:
    """Keeps one server. `run` returns when the server is to be, and is, no more."""

    def __init__(self, spec: Spec) -> None:
        self._command = spec["command"]
        self._user = spec["user"]
        self._pgdata = Path(spec["pgdata"])
        self._run_dir = Path(spec["run"])
        self._owners = self._run_dir / "owners"
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._pruned = 0.0
        self._wakeup, wake = os.pipe()
        for end in (self._wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Handlers that do nothing, not SIG_IGN, which PostgreSQL would inherit. SIGTERM too:
        # "systemctl stop" sends it to everybody at once, and the owner still needs its database.
        for number in (signal.SIGCHLD, signal.SIGUSR1, *_OTHERS_SIGNALS):
            signal.signal(number, _nothing)

    def run(self) -> None:
        """Start the server, or adopt one, and keep it until the last owner has gone."""
        if not self._begin():
            _report(FAILED)
            return
        _report(READY)
        while not self._finished_alone():
            if not self._alive() and not self._restart():
                return  # the owners see it, ask why, tell people and try again
            self._prune_logs()
            self._wait(_LOOK_SECONDS)

    def _begin(self) -> bool:
        self._launch()
        adopted = self._child is None
        if self._await_ready():
            return True
        if not adopted or not live_owners(self._owners):
            return False
        self._launch()  # the one it found was on its way out
        return self._await_ready()

    def _restart(self) -> bool:
        for delay in _RESTART_DELAYS:
            deadline = time.monotonic() + delay
            while (left := deadline - time.monotonic()) > 0:
                self._wait(left)
            if not live_owners(self._owners):
                return True
            self._launch()
            if self._await_ready():
                return True
        return False

    def _launch(self) -> None:
        """Start the postmaster, unless one of an earlier keeper still serves the cluster."""
        self._child = None
        found = read_postmaster(self._pgdata)
        if found and is_postmaster(found.pid, self._pgdata):
            self._pid = found.pid
            return
        if found and _exists(found.pid):
            self._disown(found.pid)
        uid, gid = self._user or (None, None)
        with (self._run_dir / "startup.log").open("wb") as log:
            try:
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    user=uid,
                    group=gid,
                    extra_groups=None if uid is None else [],
                    umask=0o077,
                    preexec_fn=partial(_become_server, os.getpid()),  # noqa: PLW1509 - no threads here
                )
                self._pid = self._child.pid
            except OSError as error:
                log.write(f"FATAL:  {self._command[0]}: {error.strerror}\n".encode())
                self._pid = 0

    def _disown(self, stranger: int) -> None:
        """Name ourselves in a stale pid file whose number another process has got since.

        After a reboot, or in a container, that is common, and PostgreSQL refuses to start then.
        It ignores its own parent's number (CreateLockFile in miscinit.c). Removing the file would
        also do away with the check for backends that survived their postmaster.
        """
        with suppress(OSError):
            descriptor = os.open(self._pgdata / "postmaster.pid", os.O_RDWR | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "r+") as file:
                lines = file.read().splitlines(keepends=True)
                if lines and lines[0].strip() == str(stranger):
                    file.seek(0)
                    file.writelines([f"{os.getpid()}\n", *lines[1:]])
                    file.truncate()

    def _await_ready(self) -> bool:
        """Wait until the server answers, as long as it takes; False when it died or is unwanted."""
        while self._alive():
            found = read_postmaster(self._pgdata)
            if found and found.pid == self._pid and found.ready:
                return True
            if not live_owners(self._owners):
                return True  # the main loop stops it
            self._wait(0.01)
        return False

    def _alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return is_postmaster(self._pid, self._pgdata)

    def _finished_alone(self) -> bool:
        """Stop the server when nobody owns it, and say whether that is so.

        The start lock is kept until this process has ended: whoever starts next finds nothing.
        """
        if live_owners(self._owners):
            return False
        try:
            lock = os.open(self._run_dir / "start.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # somebody removed the whole data directory
            self._stop()
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)  # a new owner is arriving, or an old one is looking around
            self._wait(0.02)
            return False
        if live_owners(self._owners):
            os.close(lock)
            return False
        with suppress(OSError):
            for stale in self._owners.iterdir():
                stale.unlink()
        self._stop()
        return True

    def _stop(self) -> None:
        for number, seconds in _STOPS:
            if self._alive():
                self._send(number)
            deadline = time.monotonic() + seconds
            while self._alive() and time.monotonic() < deadline:
                self._wait(0.01)

    def _send(self, number: signal.Signals) -> None:
        """Signal the postmaster with the rights of its own user: the number is from its file."""
        if self._user is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
            return
        child = os.fork()
        if child == 0:
            with suppress(OSError):
                os.setgroups([])
                os.setgid(self._user[1])
                os.setuid(self._user[0])
                os.kill(self._pid, number)
            os._exit(0)
        os.waitpid(child, 0)

    def _prune_logs(self) -> None:
        """Keep the newest logs; PostgreSQL starts a new one at a size but removes none."""
        if time.monotonic() - self._pruned < _PRUNE_SECONDS:
            return
        self._pruned = time.monotonic()
        with suppress(OSError):
            for log in sorted((self._pgdata / "log").glob("postgresql-*.log"))[:-_LOGS_KEPT]:
                log.unlink()

    def _wait(self, seconds: float) -> None:
        """Sleep until a signal comes, a child's end among them."""
        if select.select([self._wakeup], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._wakeup, 4096)


_OTHERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Only wake the main loop."""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _become_server(parent: int) -> None:
    """In the child, before exec: what only Linux can do for it.

    A fast shutdown when the keeper dies (prctl(2)). And as a batch process (sched(7)) it does not
    interrupt others as soon as it has something to do: server and database share the processors,
    and each interruption costs the other its caches, a tenth of what both can do.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _report(word: str) -> None:
    """Tell the owner that waits for it, and close the pipe to it."""
    with suppress(BrokenPipeError):
        os.write(1, word.encode())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _take(path: Path) -> bool:
    """Lock ``path`` for the rest of this process's life and write its id there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # those who only look hold it for microseconds
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        os.truncate(descriptor, 0)
        with suppress(OSError):  # of a full disk; without it we are only not woken at once
            os.write(descriptor, str(os.getpid()).encode())
        return True
    return False


def main() -> None:
    """Run as the keeper that the first argument describes, detached from whoever started it."""
    spec: Spec = json.loads(sys.argv[1])
    if os.fork():
        os._exit(0)  # the keeper is nobody's child to wait for
    if not _take(Path(spec["run"]) / "keeper.lock"):
        _report(FAILED)
        return
    Keeper(spec).run()


if __name__ == "__main__":
    main()
