"""benchmarks/ledger: the same writes without triggers, with the ledger's, and with everything."""

import argparse
import asyncio
import os
import resource
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.support.database import Cluster, fold, running_cluster
from benchmarks.support.pgbench import Load, pgbench
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
)

_LEGEND = f"""\
pgbench, {{clients}} clients, prepared statements; the variants take turns of 50 ms, in {{rounds}}
rounds of {{seconds:g}} s for each; medians, and medians of the ratios within a round. The
*service's* lifecycle is what it sends for POST /ains/tasks, which routes the task at once, and for
an agent's reports of ACTIVE and COMPLETED; the other one is four of the simplest statements that
do: INSERT, ASSIGNED, ACTIVE, COMPLETED. *Facts by the client*: no triggers, but each statement
writes its fact as well, which is what any record of facts costs, and every other writer would
forget. *The ledger* is its triggers without what follows from a fact. *Everything* is what users
have, with trust ({AGENTS} agents), webhooks (of 10 of {CLIENTS} clients), dependents and chains
(looked for, none there); *all but the facts* is that without the ledgers' rows. *For the facts*:
the rate, compared with what does the same and writes none. CPU is processor time of the whole of
PostgreSQL; folding is the worker's and not part of it."""


@dataclass
class _Found:
    """One variant of one script, one item for each round."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    folding: list[float] = field(default_factory=list)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured (5)")
    parser.add_argument("--seconds", type=float, default=6, help="each variant's share of it (6)")
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
    for variant, run in runs.items():
        found = into[variant]
        found.rates.append(run.transactions / run.seconds)
        found.cpu.append(1e6 * run.cpu / run.transactions)
        cpu = cpu_seconds(cluster.pid)
        if await fold(loads[variant].url):
            found.folding.append(1e6 * (cpu_seconds(cluster.pid) - cpu) / run.transactions)
        await reset(loads[variant].url)
    return share


def _change(values: list[float], base: list[float]) -> float:
    """Median change in percent from round to round."""
    return 100 * (median(a / b for a, b in zip(values, base, strict=True)) - 1)


def _rows(found: dict[str, dict[str, _Found]]) -> list[list[str]]:
    rows = [["", "per second", "rate", "for the facts", "CPU µs each", "CPU", "folding µs"]]
    for name, variants in found.items():
        first, base = next(iter(variants.items()))
        for variant, this in variants.items():
            rows.append([f"{name}, {variant}", f"{median(this.rates):,.0f}", *[""] * 5])
            if variant != first:
                rows[-1][2] = f"{_change(this.rates, base.rates):+.1f} %"
                rows[-1][5] = f"{_change(this.cpu, base.cpu):+.0f} %"
            if variant in WITHOUT_FACTS:
                without = variants[WITHOUT_FACTS[variant]]
                rows[-1][3] = f"{_change(this.rates, without.rates):+.1f} %"
            rows[-1][4] = f"{median(this.cpu):,.0f}"
            if this.folding:
                rows[-1][6] = f"{median(this.folding):,.0f}"
    return rows


async def _run(arguments: argparse.Namespace) -> str:
    names = [name for name in SCRIPTS if arguments.only in name]
    shares: list[float] = []
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ains-scripts-")))
        cluster = await stack.enter_async_context(
            running_cluster(arguments.database_url, arguments.data_dir, on_disk=True)
        )
        loads: dict[str, dict[str, Load]] = {name: {} for name in names}
        for number, variant in enumerate(VARIANTS):
            url = await cluster.create(f"bench_ledger_{number}")
            stack.push_async_callback(cluster.drop, f"bench_ledger_{number}")
            key = await prepare(url, variant)
            for name in names:
                if text := script_of(name, variant):
                    script = place / f"{name} {variant}"
                    script.write_text(text.replace("{key}", key))
                    loads[name][variant] = Load(url, script)
        found = {name: {variant: _Found() for variant in loads[name]} for name in names}
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
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
