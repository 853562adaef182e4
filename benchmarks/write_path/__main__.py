"""benchmarks/ledger: the same writes without triggers, with the ledger's, and with everything."""

import argparse
import asyncio
import os
import resource
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.support.database import Cluster, fold, running_cluster
from benchmarks.support.pgbench import pgbench
from benchmarks.support.processes import cpu_seconds, others_seconds
from benchmarks.support.results import conditions, save, table
from benchmarks.write_path.workload import (
    AGENTS,
    CLIENTS,
    SCRIPTS,
    VARIANTS,
    prepare,
    reset,
    script_of,
)

_LEGEND = f"""\
pgbench, {{clients}} clients, prepared statements, {{rounds}} rounds of {{seconds}} s in which the
variants take turns; medians, and medians of the ratios within a round. The *service's* lifecycle is
what it sends for POST /ains/tasks, which routes the task at once, and for an agent's reports of
ACTIVE and COMPLETED; the other one is four of the simplest statements that do: INSERT, ASSIGNED,
ACTIVE, COMPLETED. *Facts by the client*: no triggers, but each statement writes its fact as well,
which is what any record of facts costs, and every other writer would forget. *The ledger* is its
triggers without what follows from a fact; *everything* adds trust ({AGENTS} agents), webhooks (of
10 of {CLIENTS} clients), dependents and chains (looked for, none there). CPU is processor time of
the whole of PostgreSQL; folding is the worker's and not part of it."""


@dataclass
class _Found:
    """One variant of one script, one item for each round."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    folding: list[float] = field(default_factory=list)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often all is measured (9)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a measurement (4)")
    parser.add_argument("--clients", type=int, default=8, help="connections at once (8)")
    parser.add_argument("--only", default="", help="only the script of this name (INSERT)")
    parser.add_argument("--save", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument(
        "--data-dir", type=Path, help="where the data are; else in a temporary directory on disk"
    )
    parser.add_argument("--database-url", help="a server to use instead of the embedded one")
    return parser.parse_args()


def _others(cluster: Cluster) -> float:
    """Processor time of strangers so far: pgbench, which has ended by then, is none."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return others_seconds(cluster.pid) - children.ru_utime - children.ru_stime


async def _measure(
    arguments: argparse.Namespace, cluster: Cluster, url: str, script: Path, into: _Found
) -> float:
    """Add one round; returns the share of the machine that others took meanwhile."""
    cpu, others, start = cpu_seconds(cluster.pid), _others(cluster), perf_counter()
    run = await pgbench(url, script, clients=arguments.clients, seconds=arguments.seconds)
    cpu, others = cpu_seconds(cluster.pid) - cpu, _others(cluster) - others
    share = others / (perf_counter() - start) / (os.cpu_count() or 1)
    into.rates.append(run.rate)
    into.cpu.append(1e6 * cpu / run.transactions)
    cpu = cpu_seconds(cluster.pid)
    if await fold(url):
        into.folding.append(1e6 * (cpu_seconds(cluster.pid) - cpu) / run.transactions)
    await reset(url)
    return share


def _rows(found: dict[tuple[str, str], _Found], names: Sequence[str]) -> list[list[str]]:
    rows = [["", "per second", "rate", "CPU µs each", "CPU", "folding µs"]]
    for name in names:
        base = found[name, next(iter(VARIANTS))]
        for variant in VARIANTS:
            if (name, variant) not in found:
                continue
            this = found[name, variant]
            rate = median(a / b for a, b in zip(this.rates, base.rates, strict=True))
            cost = median(a / b for a, b in zip(this.cpu, base.cpu, strict=True))
            rows.append(
                [
                    f"{name}, {variant}",
                    f"{median(this.rates):,.0f}",
                    f"{100 * (rate - 1):+.1f} %" if this is not base else "",
                    f"{median(this.cpu):,.0f}",
                    f"{100 * (cost - 1):+.0f} %" if this is not base else "",
                    f"{median(this.folding):,.0f}" if this.folding else "",
                ]
            )
    return rows


async def _run(arguments: argparse.Namespace) -> str:
    names = [name for name in SCRIPTS if arguments.only in name]
    texts = {
        (name, variant): text
        for name in names
        for variant in VARIANTS
        if (text := script_of(name, variant)) is not None
    }
    found = {both: _Found() for both in texts}
    shares: list[float] = []
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ains-scripts-")))
        cluster = await stack.enter_async_context(
            running_cluster(arguments.database_url, arguments.data_dir, on_disk=True)
        )
        urls, key = {}, ""
        for number, variant in enumerate(VARIANTS):
            urls[variant] = await cluster.create(f"bench_ledger_{number}")
            stack.push_async_callback(cluster.drop, f"bench_ledger_{number}")
            key = await prepare(urls[variant], variant)
        scripts = {both: place / " ".join(both) for both in texts}
        for both, script in scripts.items():
            script.write_text(texts[both].replace("{key}", key))
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            # Whoever goes first in one round goes last in the next.
            for both in scripts if number % 2 == 0 else reversed(scripts):
                url, script = urls[both[1]], scripts[both]
                shares.append(await _measure(arguments, cluster, url, script, found[both]))
        note = (
            f"{conditions(cluster.version)} Other programs took "
            f"{100 * median(shares):.0f} % of the machine (median)."
        )
        legend = _LEGEND.format(**vars(arguments))
        return f"{note}\n\n{table(_rows(found, names))}\n\n{legend}"


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text = asyncio.run(_run(arguments))
    print(f"\n{text}")
    if arguments.save:
        save("ledger", text)


if __name__ == "__main__":
    main()
