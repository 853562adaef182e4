"""benchmarks/exposition: what 100,000 series cost, and what the API notices of scrapes of them."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median

from benchmarks.rendering.past import AGENTS, FACTS, fill
from benchmarks.rendering.stages import Case, Report
from benchmarks.support.database import Cluster, running_cluster
from benchmarks.support.load import Order
from benchmarks.support.processes import (
    Generator,
    cpu_seconds,
    free_port,
    generator,
    hurry,
    hurry_all,
    python_process,
)
from benchmarks.support.results import Measured, conditions, save, table

_CLIENTS = 4
_PAUSE = 0.005
_HURRIED = """\
The clients ran at real-time priority: on another machine they would not wait for the processors of
this one."""
_NOT_HURRIED = """\
The clients were not allowed real-time priority, so that their own waiting for a processor counts as
well."""
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_SCRAPES: dict[str, dict[str, str]] = {
    "text": {"Accept": "text/plain"},
    "text, gzip": {"Accept": "text/plain", "Accept-Encoding": "gzip"},
    "OpenMetrics": {"Accept": _OPENMETRICS},
    "OpenMetrics, gzip": {"Accept": _OPENMETRICS, "Accept-Encoding": "gzip"},
}
_STAGES = f"""\
Processor time (user and system) of one scrape in a process that does nothing else, ms, medians.
*build* makes rows of what was read, *render* makes the answer of them; prometheus_client renders
the same samples. Nothing changes between two scrapes, so most of an answer is remembered from the
last one; but *the first* scrape of a process reads all totals, and before each scrape of “{FACTS:,}
tasks later” as many agents have completed a task each, which was folded. “{FACTS:,} tasks open” is
with the facts of as many, which are not folded yet. The totals and what a process remembers of
scrapes in both formats make it {{memory:.0f}} MB larger."""
_HEALTH = f"""\
GET /health of `ains serve` from {_CLIENTS} clients that wait {1000 * _PAUSE:.0f} ms after each
answer, while scrapes follow each other without a pause; × quiet is the median of the ratios of p99
of each round. CPU is processor time of the server and of PostgreSQL for one scrape, ms, measured
without other requests.
{{clients}}"""


@dataclass
class _Round:
    """One kind of scrape, round after round."""

    health: Measured = field(default_factory=Measured)
    scrapes: Measured = field(default_factory=Measured)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/exposition", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often all is measured (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement (2)")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run everything at real-time priority, undisturbed by other programs (Linux, root)",
    )
    parser.add_argument("--save", action="store_true", help="put the tables into RESULTS.md")
    parser.add_argument("--database-url", help="a server to use instead of the embedded one")
    return parser.parse_args()


async def _stages(url: str, rounds: int) -> Report:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.rendering.stages",
        url,
        str(rounds),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit("the stages could not be measured")
    report: Report = json.loads(output)
    return report


def _stages_table(cases: Mapping[str, Case]) -> str:
    rows = [["scrape", "samples", "MB", "read", "build", "render", "together", "gzip"]]
    for name in sorted(cases, key=lambda name: not name.startswith("text")):
        took = cases[name]["milliseconds"]
        both = took["build and render"]
        rows.append(
            [
                name,
                f"{cases[name]['samples']:,}",
                f"{cases[name]['size'] / 1e6:.1f}",
                f"{took['read']:.0f}" if "read" in took else "",
                f"{took['build']:.0f}",
                f"{both - took['build']:.0f}",
                f"{took.get('read', 0) + both:.0f}",
                f"{took['gzip']:.0f}" if "gzip" in took else "",
            ]
        )
    return table(rows)


class _Bench:
    def __init__(self, arguments: argparse.Namespace, port: int) -> None:
        self._seconds: float = arguments.seconds
        self._port = port

    def _order(self, path: str, headers: dict[str, str], clients: int, pause: float) -> Order:
        return {
            "port": self._port,
            "clients": clients,
            "warmup": 0.5,
            "seconds": self._seconds,
            "requests": [{"method": "GET", "path": path, "body": "", "headers": headers}],
            "pause": pause,
        }

    def health(self) -> Order:
        """Requests now and then, as from a few clients."""
        return self._order("/health", {}, _CLIENTS, _PAUSE)

    def scrapes(self, headers: dict[str, str]) -> Order:
        """Scrapes without a pause."""
        return self._order("/metrics", headers, 1, 0)


async def _health(
    bench: _Bench, loads: tuple[Generator, Generator], pids: tuple[int, int | None], rounds: int
) -> dict[str, _Round]:
    found = {name: _Round() for name in ("quiet", *_SCRAPES)}
    for _ in range(rounds):
        found["quiet"].health.reports.append(await loads[0].carry_out(bench.health()))
        for name, headers in _SCRAPES.items():
            into = found[name]
            before = [cpu_seconds(pid) for pid in pids]
            report = await loads[1].carry_out(bench.scrapes(headers))
            used = [cpu_seconds(pid) - b for pid, b in zip(pids, before, strict=True)]
            # The seconds of warming up were counted too.
            share = report["seconds"] / (report["seconds"] + 0.5)
            into.scrapes.reports.append(report)
            into.scrapes.cpu.append(used[0] * share)
            into.scrapes.database_cpu.append(used[1] * share)
            health, _report = await asyncio.gather(
                loads[0].carry_out(bench.health()), loads[1].carry_out(bench.scrapes(headers))
            )
            into.health.reports.append(health)
    for name, measured in found.items():
        if bad := measured.health.bad() | measured.scrapes.bad():
            raise SystemExit(f"{name}: answers that were no success: {bad}")
    return found


def _health_table(found: dict[str, _Round]) -> str:
    quiet = found["quiet"].health
    rows = [["during scrapes of", "p50 ms", "p99 ms", "× quiet", "max ms", "CPU", "PG CPU"]]
    for name, measured in found.items():
        pairs = zip(measured.health.reports, quiet.reports, strict=True)
        ratio = median(report["p99"] / base["p99"] for report, base in pairs)
        cost = (
            [measured.scrapes.cost(), measured.scrapes.database_cost()] if name != "quiet" else []
        )
        rows.append(
            [
                name,
                f"{measured.health.p50():.2f}",
                f"{measured.health.p99():.2f}",
                f"{ratio:.1f}",
                f"{measured.health.worst():.1f}",
                *([f"{each / 1000:.0f}" for each in cost] or ["", ""]),
            ]
        )
    return table(rows)


async def _api(
    stack: AsyncExitStack, url: str, cluster: Cluster, arguments: argparse.Namespace
) -> str:
    port = free_port()
    command = ["-c", "from ains.cli import main; main()", "serve", "--port", str(port)]
    environment = {"AINS_DATABASE_URL": url, "AINS_AGENT_TTL": "86400"}
    pid = stack.enter_context(python_process(command, port=port, environment=environment))
    loads = (
        await stack.enter_async_context(generator()),
        await stack.enter_async_context(generator()),
    )
    hurried = all(hurry(load.pid) for load in loads)
    bench = _Bench(arguments, port)
    found = await _health(bench, loads, (pid, cluster.pid), arguments.rounds)
    legend = _HEALTH.format(clients=_HURRIED if hurried else _NOT_HURRIED)
    return f"{legend}\n\n{_health_table(found)}"


async def _measure(arguments: argparse.Namespace) -> str:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(arguments.database_url))
        url = await cluster.create("bench_exposition")
        stack.push_async_callback(cluster.drop, "bench_exposition")
        print(f"filling: {AGENTS:,} agents and what they did", flush=True)
        await fill(url)
        if arguments.realtime:
            hurry_all(cluster.pid)
        print("measuring the stages", flush=True)
        stages = await _stages(url, arguments.rounds)
        print("measuring the API", flush=True)
        health = await _api(stack, url, cluster, arguments)
    return "\n\n".join(
        (
            _STAGES.format(memory=stages["memory"] / 1e6),
            _stages_table(stages["cases"]),
            health,
            conditions(cluster.version),
        )
    )


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text = asyncio.run(_measure(arguments))
    if arguments.realtime:
        text += " Everything ran at real-time priority."
    print(f"\n{text}")
    if arguments.save:
        save("Exposition", text)


if __name__ == "__main__":
    main()
