"""benchmarks/ledger: the same writes without triggers, with the ledger's, and with everything."""

import argparse
import asyncio
import os
import random
import resource
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.support.database import Cluster, fold, running_cluster
from benchmarks.support.pgbench import Load, Run, pgbench
from benchmarks.support.processes import cpu_seconds, others_seconds
from benchmarks.support.results import conditions, save, table
from benchmarks.write_path.workload import (
    AGENTS,
    CLIENTS,
    SCRIPTS,
    VARIANTS,
    WITHOUT_FACTS,
    count,
    prepare,
    reset,
    script_of,
    until_alone,
)

_LEGEND = f"""\
pgbench, {{clients}} clients, prepared statements, each a transaction of its own. The variants take
turns of 100 ms, in {{rounds}} rounds of {{seconds:g}} s for each, every round in fresh databases;
sums of all rounds. The *service's* lifecycle is the statements for POST /ains/tasks, which routes
the task at once, and for an agent's reports of ACTIVE and COMPLETED (under load `ains serve` sends
several of each together, which share a commit); the other one is four of the simplest statements
that do: INSERT, ASSIGNED, ACTIVE, COMPLETED. *Facts by the client*: no triggers, but each statement
writes its fact as well, which is what any record of facts costs, and every other writer would
forget. *The ledger* is its triggers without what follows from a fact. *Everything* is what users
have, with trust ({AGENTS} agents), webhooks (of 10 of {CLIENTS} clients), dependents and chains
(looked for, none there); *all but the facts* is that without the ledgers' rows, and *for the facts*
tells the two apart. CPU is processor time of the whole of PostgreSQL; folding is the worker's,
later, and not part of it."""


@dataclass
class _Found:
    """What was found of one variant of one script in all rounds."""

    run: Run = field(default_factory=Run)
    facts: int = 0
    folding: float = 0.0

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return self.run.transactions / self.run.seconds

    @property
    def cpu(self) -> float:
        """Processor time of a transaction."""
        return self.run.cpu / self.run.transactions


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="how often all is measured (6)")
    parser.add_argument("--seconds", type=float, default=6, help="each variant's share of it (6)")
    parser.add_argument("--clients", type=int, default=8, help="connections to each database (8)")
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
    arguments: argparse.Namespace,
    cluster: Cluster,
    loads: dict[str, Load],
    into: dict[str, _Found],
) -> float:
    """Add one round of one script; returns the share of the machine that others took meanwhile."""
    others, start = _others(cluster), perf_counter()
    runs = await pgbench(
        loads,
        clients=arguments.clients,
        seconds=arguments.seconds,
        cpu=lambda: cpu_seconds(cluster.pid),
        count=count,
    )
    share = (_others(cluster) - others) / (perf_counter() - start) / (os.cpu_count() or 1)
    for variant in random.sample([*runs], len(runs)):
        found, url = into[variant], loads[variant].url
        found.run.add(runs[variant])
        await until_alone(url)
        cpu = cpu_seconds(cluster.pid)
        found.facts += await fold(url)
        found.folding += cpu_seconds(cluster.pid) - cpu
        await reset(url)
    return share


def _change(value: float, base: float) -> str:
    return f"{100 * (value / base - 1):+.1f} %"


def _rows(found: dict[str, dict[str, _Found]]) -> list[list[str]]:
    rows = [["", "per second", "rate", "CPU µs each", "CPU", "for the facts", "folding µs"]]
    for name, variants in found.items():
        first, base = next(iter(variants.items()))
        for variant, this in variants.items():
            without = variants[WITHOUT_FACTS[variant]] if variant in WITHOUT_FACTS else None
            row = [f"{name}, {variant}", f"{this.rate:,.0f}", *[""] * 5]
            if variant != first:
                row[2] = _change(this.rate, base.rate)
            if without is not None:
                row[5] = _change(this.rate, without.rate)
            if base.cpu:  # else the server is not on this machine
                row[3] = f"{1e6 * this.cpu:,.0f}"
                if variant != first:
                    row[4] = _change(this.cpu, base.cpu)
                if without is not None:
                    row[5] += f", CPU {_change(this.cpu, without.cpu)}"
                if this.facts:
                    row[6] = f"{1e6 * this.folding / this.run.transactions:,.0f}"
            rows.append(row)
    return rows


async def _databases(
    stack: AsyncExitStack, cluster: Cluster, place: Path, names: list[str]
) -> dict[str, dict[str, Load]]:
    """Make a database for each variant, in random order; returns loads by script and variant."""
    loads: dict[str, dict[str, Load]] = {name: {} for name in names}
    for number, variant in enumerate(random.sample([*VARIANTS], len(VARIANTS))):
        url = await cluster.create(f"bench_ledger_{number}")
        stack.push_async_callback(cluster.drop, f"bench_ledger_{number}")
        key = await prepare(url, variant)
        for name in names:
            if text := script_of(name, variant):
                script = place / f"{name} {variant}"
                script.write_text(text.replace("{key}", key))
                loads[name][variant] = Load(url, script)
    return loads


async def _run(arguments: argparse.Namespace) -> str:
    names = [name for name in SCRIPTS if arguments.only in name]
    found = {name: {v: _Found() for v in VARIANTS if script_of(name, v)} for name in names}
    shares: list[float] = []
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ains-scripts-")))
        cluster = await stack.enter_async_context(
            running_cluster(arguments.database_url, arguments.data_dir, on_disk=True)
        )
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            async with AsyncExitStack() as databases:
                loads = await _databases(databases, cluster, place, names)
                shares += [await _measure(arguments, cluster, loads[x], found[x]) for x in names]
        note = (
            f"{conditions(cluster.version)} Other programs took "
            f"{100 * median(shares):.0f} % of the machine (median)."
        )
        legend = _LEGEND.format(**vars(arguments))
        return f"{note}\n\n{table(_rows(found))}\n\n{legend}"


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text = asyncio.run(_run(arguments))
    print(f"\n{text}")
    if arguments.save:
        save("ledger", text)


if __name__ == "__main__":
    main()
