"""What is measured: servers that answer GET /metrics, and how long they take."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.scraping.exporters import (
    POSTGRES_EXPORTER,
    SQL_EXPORTER,
    PostgresExporter,
    SqlExporter,
)
from benchmarks.scraping.queries import AGENT_TTL_SECONDS
from benchmarks.support.processes import cpu_seconds, free_port, python_process, server_process

__all__ = ["FLOOR", "GROUP_BY", "OURS", "Target", "start_ours", "start_peers"]

OURS: Final = "ains"
FLOOR: Final = "floor"
GROUP_BY: Final = "GROUP BY"

_PATIENCE_SECONDS: Final = 1800.0
_BEGUN: Final = "Running Query"
_PASSED: Final = "Sleeping until next run"


@dataclass
class Target:
    """A server, and its rounds: seconds and processor seconds for each scrape."""

    name: str
    port: int
    pid: int | None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    spent: float = 0.0
    _connection: HTTPConnection | None = None

    def scrape(self) -> tuple[float, str]:
        """Seconds, and the answer. Raises `RuntimeError` for any status but 200."""
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
            self._connection.connect()
        start = perf_counter()
        self._connection.request("GET", "/metrics")
        response = self._connection.getresponse()
        body = response.read()
        seconds = perf_counter() - start
        if response.status != 200:
            raise RuntimeError(f"{self.name}: {response.status} {body[:500]!r}")
        return seconds, body.decode()

    def measure(self, at_least: float, database: int | None) -> None:
        """Add one round: scrapes, one after the other, for so many seconds, one at least."""
        if self._connection is not None:
            # A server hangs up after a minute or so, and with 10 M tasks others take longer.
            self._connection.close()
            self._connection = None
        found: list[float] = []
        start, cpu = perf_counter(), self._cpu(database)
        while not found or perf_counter() - start < at_least:
            found.append(self.scrape()[0])
        self.cpu.append((self._cpu(database) - cpu) / len(found))
        self.seconds.append(median(found))
        self.spent += perf_counter() - start

    def _cpu(self, database: int | None) -> float:
        return cpu_seconds(self.pid) + cpu_seconds(database)

    @property
    def milliseconds(self) -> float:
        """Median of the rounds' medians."""
        return 1000 * median(self.seconds)

    def times(self, other: "Target") -> float:
        """How many times as long as the other this takes: median of the rounds' ratios."""
        return median(a / b for a, b in zip(self.seconds, other.seconds, strict=False))

    def cpu_times(self, other: "Target") -> float:
        """Likewise of processor time."""
        return median(a / b for a, b in zip(self.cpu, other.cpu, strict=False))


class _Scheduled(Target):
    """prometheus-sql-exporter: a pass through its queries, and a scrape of what that has found.

    How long the pass took is what its log says, from the first query to the last; starting and
    connecting do not count.
    """

    configured: SqlExporter

    def scrape(self) -> tuple[float, str]:
        process = subprocess.Popen(
            self.configured.command,
            env=os.environ | self.configured.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            times: dict[str, datetime] = {}
            for line in process.stdout:
                entry = json.loads(line)
                times.setdefault(entry["msg"], datetime.fromisoformat(entry["ts"]))
                if entry["msg"] == _PASSED:
                    break
            else:
                raise RuntimeError(f"{self.name} has ended early")
            seconds, body = super().scrape()
        finally:
            process.kill()
            process.communicate()
            self._connection = None
        return seconds + (times[_PASSED] - times[_BEGUN]).total_seconds(), body

    def _cpu(self, database: int | None) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + cpu_seconds(database)


def start_ours(stack: ExitStack, url: str) -> Target:
    """`ains serve` with the settings that users get, but nobody folds what is left open."""
    port = free_port()
    command = ["-c", "from ains.cli import main; main()", "serve", "--no-workers"]
    environment = {
        "AINS_DATABASE_URL": url,
        "AINS_AGENT_TTL": str(AGENT_TTL_SECONDS),
        "AINS_LOG_LEVEL": "warning",
    }
    process = python_process([*command, "--port", str(port)], port=port, environment=environment)
    return Target(OURS, port, stack.enter_context(process))


def start_peers(stack: ExitStack, url: str, lines: int, place: Path) -> Iterator[Target]:
    """Everything else. Without Debian's exporters, where they are not installed."""
    environment = {"BENCH_DATABASE_URL": url, "BENCH_LINES": str(lines)}
    for name, kind in ((FLOOR, "floor"), (GROUP_BY, "groupby")):
        port = free_port()
        command = ["-m", "benchmarks.scraping.servers", kind, str(port)]
        process = python_process(command, port=port, environment=environment)
        yield Target(name, port, stack.enter_context(process))
    if _installed(POSTGRES_EXPORTER):
        port = free_port()
        exporter = PostgresExporter(url, port, place)
        server = server_process(exporter.command, port=port, environment=exporter.environment)
        yield Target(POSTGRES_EXPORTER, port, stack.enter_context(server))
    if _installed(SQL_EXPORTER):
        scheduled = _Scheduled(SQL_EXPORTER, free_port(), None)
        scheduled.configured = SqlExporter(url, scheduled.port, place)
        yield scheduled


def _installed(program: str) -> bool:
    if shutil.which(program) is None:
        print(f"not installed, so not measured: {program}", flush=True)
        return False
    return True
