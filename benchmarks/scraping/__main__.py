"""benchmarks/scrape: GET /metrics as history grows, ours and what else there is, in one run."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

from benchmarks.scraping import agreement
from benchmarks.scraping.exporters import POSTGRES_EXPORTER
from benchmarks.scraping.past import AGENTS, LIFECYCLES, LIVE, prepared
from benchmarks.scraping.targets import FLOOR, OURS, Target, start_ours, start_peers
from benchmarks.support.database import Cluster, running_cluster
from benchmarks.support.processes import hurry_all, others_seconds
from benchmarks.support.results import DATA, conditions, save, table

_SIZES: Final = (10_000, 100_000, 1_000_000)
_TEN_MILLION: Final = 10_000_000
_WAITING: Final = 100_000
_LEAST_ROUNDS: Final = 3
_ROOT: Final = Path(__file__).resolve().parents[2]

_LEGEND = f"""\
Milliseconds of a scrape over HTTP, uncompressed, one after the other; medians of {{rounds}} rounds
in which all take turns ({_LEAST_ROUNDS} rounds of what takes longer than {{budget:.0f}} s in all).
Each database has the same {{series}} samples in {{families}} families, {AGENTS} agents, {LIVE}
tasks that live, and {4 * LIFECYCLES} facts that are not folded; “{_WAITING:,} that wait” are as
many blocked tasks, and as many pending webhook deliveries, of which the others have ten. Nothing
changes between two scrapes. All were asked for the same families and gave equal values, which was
checked. The *floor* reads metrics.totals and writes as many lines in the simplest loop.
prometheus-postgres-exporter does histograms (its own collectors are off); prometheus-sql-exporter
has a gauge for each bound instead, asks on a schedule and answers from memory: its time is that of
one pass through its queries and a scrape."""


class _Size:
    """One database and the servers that read it."""

    def __init__(self, title: str, url: str) -> None:
        self.title = title
        self.url = url
        self.targets: dict[str, Target] = {}
        self.parts: list[dict[str, float]] = []
        self.samples = 0
        self.families = 0

    def start(self, stack: ExitStack, *, alone: bool) -> None:
        """Start them, have each scrape once to warm up, and see that they agree."""
        ours = self.targets[OURS] = start_ours(stack, self.url)
        text = ours.scrape()[1]
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        self.samples = len(lines)
        self.families = text.count("# TYPE")
        if alone:
            return
        expected = agreement.values(text)
        place = Path(stack.enter_context(TemporaryDirectory(prefix="ains-exporters-")))
        for target in start_peers(stack, self.url, self.samples, place):
            self.targets[target.name] = target
            start = perf_counter()
            answer = target.scrape()[1]
            print(f"{self.title}, {target.name}: first {perf_counter() - start:.2f} s", flush=True)
            if target.name == FLOOR:
                assert answer.count("\n") == self.samples
            elif found := agreement.differences(expected, agreement.values(answer)):
                raise SystemExit("\n".join([f"{target.name} disagrees:", *found[:20]]))

    async def take_apart(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks.scraping.parts"),
            cwd=_ROOT,
            env=os.environ | {"BENCH_DATABASE_URL": self.url},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise SystemExit("benchmarks.scraping.parts has failed")
        self.parts.append(json.loads(out))

    def part(self, name: str) -> float:
        """Milliseconds."""
        return median(parts[name] for parts in self.parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/scrape", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 k and 100 k tasks only")
    parser.add_argument("--ten-million", action="store_true", help="also 10 M tasks: 20 GB")
    parser.add_argument("--rounds", type=int, default=15, help="how often all is measured (15)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round each (0.5)")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds that one server may take in all (60)"
    )
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run everything at real-time priority, undisturbed by other programs (Linux, root)",
    )
    parser.add_argument("--save", action="store_true", help="save to RESULTS.md and results/")
    parser.add_argument(
        "--data-dir", type=Path, help="where databases stay for the next run; else removed"
    )
    return parser.parse_args()


async def _databases(cluster: Cluster, arguments: argparse.Namespace) -> dict[str, str]:
    """Their URLs by the number of tasks, as people write it."""
    sizes = [size for size in _SIZES if size < 1_000_000 or not arguments.quick]
    if arguments.ten_million:
        sizes.append(_TEN_MILLION)
    found = {f"{size:,}": await prepared(cluster, size) for size in sizes}
    title = f"{_SIZES[0]:,} and {_WAITING:,} that wait"
    found[title] = await prepared(cluster, _SIZES[0], waiting=_WAITING)
    return found


def _due(target: Target, budget: float) -> bool:
    return len(target.seconds) < _LEAST_ROUNDS or target.spent < budget


async def _measure(
    sizes: list[_Size], arguments: argparse.Namespace, cluster: Cluster
) -> list[float]:
    """All rounds; returns the share of the machine that others took in each."""
    shares = []
    pids = [target.pid for size in sizes for target in size.targets.values()]
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
        start, others = perf_counter(), others_seconds(cluster.pid, *pids)
        for size in sizes:
            for target in size.targets.values():
                if _due(target, arguments.budget):
                    await asyncio.to_thread(target.measure, arguments.seconds, cluster.pid)
        others = others_seconds(cluster.pid, *pids) - others
        shares.append(others / (perf_counter() - start) / (os.cpu_count() or 1))
        if number % 5 == 0:
            for size in sizes:
                await size.take_apart()
    return shares


def _rows(sizes: list[_Size]) -> Iterator[list[str]]:
    names = list(sizes[0].targets)
    yield ["tasks", *names]
    for size in sizes:
        times = [
            f"{size.targets[name].milliseconds:,.2f}" if name in size.targets else ""
            for name in names
        ]
        yield [size.title, *times]


def _cpu_rows(sizes: list[_Size]) -> Iterator[list[str]]:
    names = list(sizes[0].targets)
    yield ["processor time, ms", *names]
    for size in sizes:
        yield [
            size.title,
            *[
                f"{1000 * median(size.targets[name].cpu):,.2f}" if name in size.targets else ""
                for name in names
            ],
        ]


def _part_rows(sizes: list[_Size]) -> Iterator[list[str]]:
    names = ["waiting", "build", "render", "gzip"]
    yield ["ours, ms", "waiting for PostgreSQL", *names[1:]]
    for size in sizes:
        yield [size.title, *[f"{size.part(name):.2f}" for name in names]]


def _findings(sizes: list[_Size]) -> Iterator[str]:
    """What was promised, and what was found."""
    first, *larger = [size for size in sizes if FLOOR in size.targets]
    base = first.targets[OURS]
    for size in larger:
        ours = size.targets[OURS]
        time, cpu = ours.times(base), ours.cpu_times(base)
        yield f"- {size.title} tasks: {time:.2f} × our time at {first.title} (CPU {cpu:.2f} ×)"
    for size in (first, *larger):
        ours = size.targets[OURS]
        theirs = size.targets.get(POSTGRES_EXPORTER)
        floor = size.targets[FLOOR]
        time, cpu = ours.times(floor), ours.cpu_times(floor)
        words = [f"- {size.title} tasks: {time:.2f} × the floor (CPU {cpu:.2f} ×)"]
        if theirs is not None:
            time, cpu = theirs.times(ours), theirs.cpu_times(ours)
            words.append(f"1/{time:,.0f} of {POSTGRES_EXPORTER}'s time (CPU 1/{cpu:,.0f})")
        yield ", ".join(words)


def _numbers(sizes: list[_Size], note: str) -> dict[str, Any]:
    """For `benchmarks/report`."""
    return {
        "conditions": note,
        "milliseconds": {
            size.title.replace(",", ""): {
                name: round(target.milliseconds, 3) for name, target in size.targets.items()
            }
            for size in sizes
            if FLOOR in size.targets
        },
    }


async def _run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            running_cluster(None, arguments.data_dir, on_disk=True)
        )
        urls = await _databases(cluster, arguments)
        if arguments.realtime:
            hurry_all(cluster.pid)
        servers = stack.enter_context(ExitStack())
        sizes = [_Size(title, url) for title, url in urls.items()]
        for size in sizes:
            await asyncio.to_thread(size.start, servers, alone=size is sizes[-1])
        shares = await _measure(sizes, arguments, cluster)
        note = (
            f"{conditions(cluster.version)} Other programs took {100 * median(shares):.0f} % of "
            f"the machine (median of the rounds; the measuring client is one of them)."
        )
        if arguments.realtime:
            note += " Everything ran at real-time priority."
    legend = _LEGEND.format(
        series=sizes[0].samples,
        families=sizes[0].families,
        rounds=arguments.rounds,
        budget=arguments.budget,
    )
    tables = [table(list(rows(sizes))) for rows in (_rows, _cpu_rows, _part_rows)]
    text = "\n\n".join([note, legend, *tables, "\n".join(_findings(sizes))])
    return text, _numbers(sizes, note)


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text, numbers = asyncio.run(_run(arguments))
    print(f"\n{text}")
    if arguments.save:
        save("scrape", text)
        DATA.mkdir(exist_ok=True)
        (DATA / "scrape.json").write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
