"""Processes of a benchmark: servers, the load generator, and how much processor time each took."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Final

import psutil

from benchmarks.support.load import Order, Report

__all__ = [
    "Generator",
    "cpu_seconds",
    "free_port",
    "generator",
    "hurry",
    "hurry_all",
    "others_seconds",
    "python_process",
    "quiet",
    "server_process",
]

_ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_IDLE: Final = 0.05
_IDLE_SECONDS: Final = 5.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def server_process(
    command: list[str], *, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the block ends, from when it listens on ``port`` on.

    Yields its process id. Raises `RuntimeError` with its output when it ends early.
    """
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(process, port)
            yield process.pid
        except BaseException as error:
            output.seek(0)
            error.add_note(output.read().decode(errors="replace")[-3000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def python_process(
    arguments: list[str], *, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """`server_process` for ``python <arguments>``."""
    command = [sys.executable, *arguments]
    with server_process(command, port=port, environment=environment) as pid:
        yield pid


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = monotonic() + _START_SECONDS
    while monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


class Generator:
    """The process of `benchmarks.support.load`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def carry_out(self, order: Order) -> Report:
        """Have one order carried out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has died")
        report: Report = json.loads(line)
        return report


@asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    """Run the load generator until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.support.load",
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Generator(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def hurry(pid: int) -> bool:
    """Give a process and its children, now and later, real-time priority; False if not allowed."""
    parent = psutil.Process(pid)
    try:
        for process in (parent, *parent.children(recursive=True)):
            os.sched_setscheduler(process.pid, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError):  # not Linux, or not root
        return False
    return True


def hurry_all(server: int | None) -> None:
    """Give real-time priority to this process and to ``server``, the id of a running one.

    Raises `SystemExit` where that is not allowed.
    """
    if not all(hurry(pid) for pid in (os.getpid(), server) if pid is not None):
        raise SystemExit("--realtime needs Linux, and root or CAP_SYS_NICE")


def cpu_seconds(pid: int | None) -> float:
    """Processor time that a process and its children have used so far, dead children included."""
    if pid is None:
        return 0.0
    total = 0.0
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if process is parent:
            total += times.children_user + times.children_system
    return total


async def quiet(pid: int | None, patience: float = 600.0) -> None:
    """Wait until a process and its children have next to nothing to do.

    After a million tasks were made, PostgreSQL makes partitions for them and vacuums for minutes.
    """
    end = monotonic() + patience
    busy = 1.0
    while busy > _IDLE and monotonic() < end:
        before, start = cpu_seconds(pid), monotonic()
        await asyncio.sleep(_IDLE_SECONDS)
        busy = (cpu_seconds(pid) - before) / (monotonic() - start)


def others_seconds(*ours: int | None) -> float:
    """Processor time used so far by everything on this machine but ``ours`` and this process.

    ``ours`` are process ids; their children count with them.
    """
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user, too
    own = psutil.Process().cpu_times()
    return sum(times) - idle - guest - own.user - own.system - sum(map(cpu_seconds, ours))
