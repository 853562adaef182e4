"""benchmarks/http: how fast the API is, against bare handlers in the same run."""

import argparse
import asyncio
import math
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import perf_counter

from benchmarks.http_api.scenarios import BATCH, PAST, SCENARIOS, Scenario
from benchmarks.support.database import Cluster, add_agents, add_past, clear, running_cluster
from benchmarks.support.processes import (
    Generator,
    cpu_seconds,
    free_port,
    generator,
    others_seconds,
    python_process,
    quiet,
)
from benchmarks.support.results import Measured, conditions, save, table

_MANY_AGENTS = 10_000
_MANY_TASKS = 1_000_000
_DISTURBED = 0.1
_LEGEND = f"""\
Medians of interleaved rounds. CPU is processor time of the server for each request, PG CPU that of
PostgreSQL. A batch is {BATCH} tasks, a lifecycle three requests: create (and route), ACTIVE,
COMPLETED."""
_COMPARISON = """\
With 10,000 capable agents and 1 M finished tasks POST /ains/tasks takes {time:.2f} × the time
(processor time: {cpu:.2f} ×) of 10 agents and none."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/http", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first impression in 20 seconds")
    parser.add_argument("--million", action="store_true", help="also with 1 M tasks; minutes more")
    parser.add_argument("--save", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--rounds", type=int, help="how often all is measured (7, quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of a measurement (1.5, quick: 0.7)")
    parser.add_argument("--clients", type=int, default=16, help="connections at once (16)")
    parser.add_argument("--agents", type=int, default=10, help="agents that do the work (10)")
    parser.add_argument(
        "--patience",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long to go on repeating measurements that other programs disturb (0)",
    )
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument(
        "--database-url", help="a server to use instead of the embedded one; bench_* is made there"
    )
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 7)
    arguments.seconds = arguments.seconds or (0.7 if arguments.quick else 1.5)
    return arguments


class _Servers:
    """The servers under test: their ports, processes and databases, by name."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.pids: dict[str, int] = {}
        self.databases: dict[str, str] = {}

    def start(self, stack: AsyncExitStack, name: str, dsn: str) -> None:
        """Start a server until ``stack`` is left."""
        port = free_port()
        if name == "bare":
            command = ["-m", "benchmarks.http_api.bare", str(port)]
        else:
            command = ["-c", "from ains.cli import main; main()", "serve", "--port", str(port)]
        # By the environment: a command line shows the password to everybody.
        environment = {"AINS_DATABASE_URL": dsn, "AINS_AGENT_TTL": "86400"}
        process = python_process(command, port=port, environment=environment)
        self.ports[name] = port
        self.pids[name] = stack.enter_context(process)
        self.databases[name] = dsn


class _Bench:
    """Measures scenarios; a measurement that others disturb is repeated while patience lasts."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        servers: _Servers,
        cluster: Cluster,
        load: Generator,
    ) -> None:
        self._arguments = arguments
        self._servers = servers
        self._cluster = cluster
        self._load = load
        self._patience = perf_counter() + arguments.patience

    async def measure(self, scenario: Scenario, into: Measured) -> None:
        """Add one round."""
        while True:
            before = self._usage(scenario)
            start = perf_counter()
            report = await self._load.carry_out(
                {
                    "port": self._servers.ports[scenario.server],
                    "clients": self._arguments.clients,
                    "warmup": self._arguments.seconds / 5,
                    "seconds": self._arguments.seconds,
                    "requests": scenario.requests,
                }
            )
            seconds = perf_counter() - start
            used = [b - a for a, b in zip(before, self._usage(scenario), strict=True)]
            if scenario.server != "bare" and scenario.requests[0]["method"] == "POST":
                await clear(self._servers.databases[scenario.server])
                await quiet(self._cluster.pid)
            others = used[2] / seconds / (os.cpu_count() or 1)
            if others < _DISTURBED or start > self._patience:
                break
            await asyncio.sleep(1)
        share = report["seconds"] / seconds  # the rest was warming up
        into.reports.append(report)
        into.cpu.append(used[0] * share)
        into.database_cpu.append(used[1] * share)
        into.others.append(others)

    def _usage(self, scenario: Scenario) -> tuple[float, float, float]:
        """Processor time so far of the server, of PostgreSQL, and of strangers."""
        pid, database = self._servers.pids[scenario.server], self._cluster.pid
        ours = {*self._servers.pids.values(), self._load.pid, database}
        return cpu_seconds(pid), cpu_seconds(database), others_seconds(*ours)


def _rows(chosen: Sequence[Scenario], measured: dict[str, Measured]) -> list[list[str]]:
    head = ["16 clients", "per second", "p50 ms", "p99 ms", "max ms", "p99/p50"]
    rows = [[*head, "CPU µs", "PG CPU µs", "of the bare one"]]
    for scenario in chosen:
        found = measured[scenario.name]
        base = measured.get(scenario.baseline or "")
        rows.append(
            [
                scenario.name,
                f"{found.rate(scenario.weight):,.0f} {scenario.unit}",
                f"{found.p50():.2f}",
                f"{found.p99():.2f}",
                f"{found.worst():.1f}",
                f"{found.tail():.1f}",
                f"{found.cost():.0f}",
                f"{found.database_cost():.0f}",
                f"{100 * found.ratio(base):.0f} %" if base and scenario is not PAST else "",
            ]
        )
    rows[0][0] = "scenario"
    return rows


def _text(chosen: Sequence[Scenario], measured: dict[str, Measured], note: str) -> str:
    lines = [note, "", table(_rows(chosen, measured)), "", _LEGEND]
    if PAST.name in measured:
        past, now = measured[PAST.name], measured[PAST.baseline or ""]
        time = 1 / past.ratio(now)
        cpu = (past.cost() + past.database_cost()) / (now.cost() + now.database_cost())
        lines += ["", _COMPARISON.format(time=time, cpu=cpu)]
    for name, found in measured.items():
        if found.bad():
            lines += ["", f"{name}: answers that were no success: {found.bad()}"]
    return "\n".join(lines)


async def _run(arguments: argparse.Namespace) -> str:
    chosen = [s for s in SCENARIOS if arguments.only in s.name]
    if arguments.million:
        chosen += [s for s in SCENARIOS if s.name == PAST.baseline and s not in chosen] + [PAST]
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(arguments.database_url))
        servers = _Servers()
        small = await cluster.create("bench_small")
        stack.push_async_callback(cluster.drop, "bench_small")
        await add_agents(small, arguments.agents)
        if arguments.million:
            large = await cluster.create("bench_large")
            stack.push_async_callback(cluster.drop, "bench_large")
            start = perf_counter()
            await add_agents(large, _MANY_AGENTS)
            await add_past(large, _MANY_TASKS, _MANY_AGENTS)
            print(f"made 1 M tasks in {perf_counter() - start:.0f} s", flush=True)
            servers.start(stack, "large", large)
        for name in sorted({scenario.server for scenario in chosen} - {"large"}):
            servers.start(stack, name, small)
        load = await stack.enter_async_context(generator())
        bench = _Bench(arguments, servers, cluster, load)
        await quiet(cluster.pid)
        measured = {scenario.name: Measured() for scenario in chosen}
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            for scenario in chosen:
                await bench.measure(scenario, measured[scenario.name])
        others = max(share for found in measured.values() for share in found.others)
        note = (
            f"{conditions(cluster.version)} {arguments.rounds} rounds of {arguments.seconds} s, "
            f"{arguments.clients} clients, {arguments.agents} agents. "
            f"Other programs took at most {100 * others:.0f} % of the machine."
        )
        return _text(chosen, measured, note)


def main() -> None:
    """Run the benchmark that the command line describes."""
    arguments = _arguments()
    start = perf_counter()
    text = asyncio.run(_run(arguments))
    print(f"\n{text}\n\n({math.ceil(perf_counter() - start)} s)")
    if arguments.save:
        save("http", text)


if __name__ == "__main__":
    main()
