"""benchmarks/webhooks: deliveries to a healthy endpoint, alone and beside others in trouble."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import time

import uvloop

from ains.db.pool import Database
from ains.domain.addresses import parse_networks
from ains.workers.resolver import HostResolver
from ains.workers.runner import Worker, Workers
from ains.workers.wakeup import Throttle, Wakeup
from ains.workers.webhooks import DeliveryOptions, WebhookSender
from benchmarks.delivering.receiver import Endpoints, endpoints
from benchmarks.support.database import CLIENT, add_agents, connected, running_cluster
from benchmarks.support.results import conditions, save, table

_DATABASE = "bench_webhooks"
_ALONE = "healthy endpoint alone"
_OTHERS = {_ALONE: 0, "beside one that hangs": 1, "beside three in trouble": 3}
"""How many of the others have deliveries."""
_LEGEND = """\
Medians of {rounds} rounds of all in turn. First {burst:,} deliveries fall due together: the rate
is until the last of them has arrived. Then come {paced} events at {rate} a second: the times are
from each to its arrival. The worker is woken by each event, at most every tenth of a second, as
`ains serve` does it. One hangs: it accepts and never answers; of the three in trouble another one
refuses, and one's name never resolves. {burst:,} deliveries wait for each of them, with the time
limits and retries of `ains serve`; what is refused is as many attempts more to record. Worker and
receivers share a process, and both share the cores with PostgreSQL. × alone is the median of the
ratios within a round."""

# Each is of a task of its own, so none waits for another.
_DELIVERIES = """
INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
SELECT w.webhook_id, w.host, 'task.created', gen_random_uuid(),
       json_build_object('at', extract(epoch FROM clock_timestamp()))::text
  FROM webhooks AS w, generate_series(1, $2) WHERE w.host = $1
"""
_WEBHOOK = """
INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
VALUES (gen_random_uuid(), $1, $2, $3, '{task.created}', 'of the benchmark')
"""


@dataclass
class _Found:
    """One item for each round; rates a second, times in milliseconds."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/webhooks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often both are measured (7)")
    parser.add_argument("--burst", type=int, default=2000, help="deliveries due at once (2000)")
    parser.add_argument("--paced", type=int, default=500, help="deliveries one by one (500)")
    parser.add_argument("--rate", type=int, default=100, help="of these, a second (100)")
    parser.add_argument("--save", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument(
        "--data-dir", type=Path, help="where the data are; else in a temporary directory on disk"
    )
    parser.add_argument("--database-url", help="a server to use instead of the embedded one")
    return parser.parse_args()


@asynccontextmanager
async def _worker(url: str, to: Endpoints) -> AsyncIterator[Throttle]:
    """As `ains serve` has it, but for names and the loopback; lends what wakes it."""
    database, wakeup = Database(url, max_size=10), Wakeup()
    options = DeliveryOptions(allowed=parse_networks(["127.0.0.0/8"]), grace=0.1)
    resolver = HostResolver(lookup=to.look_up)
    sender = WebhookSender(database, options, wake=wakeup, resolver=resolver)
    workers = Workers([Worker("webhooks", sender.step, wakeup)])
    workers.start()
    try:
        yield Throttle(wakeup, options.wake_pause)
    finally:
        await workers.stop(1)
        await sender.close()
        await database.close()


async def _measure(arguments: argparse.Namespace, url: str, into: _Found, others: int) -> None:
    async with connected(url) as connection, endpoints() as to:
        healthy, *troubled = to.urls
        await connection.execute("DELETE FROM webhooks")
        for host, address in to.urls.items():
            await connection.execute(_WEBHOOK, CLIENT, address, host)
        for host in troubled[:others]:
            await connection.execute(_DELIVERIES, host, arguments.burst)
        await connection.execute("VACUUM ANALYZE webhook_deliveries, webhooks")
        async with _worker(url, to) as wake:
            await asyncio.sleep(1)  # the others are in trouble by now
            started = time()
            await connection.execute(_DELIVERIES, healthy, arguments.burst)
            wake()
            await to.arrived(arguments.burst)
            into.rate.append(arguments.burst / (to.last - started))
            to.latencies.clear()
            for _ in range(arguments.paced):
                await connection.execute(_DELIVERIES, healthy, 1)
                wake()
                await asyncio.sleep(1 / arguments.rate)
            await to.arrived(arguments.paced)
            cuts = quantiles(to.latencies, n=100)
            into.p50.append(1000 * cuts[49])
            into.p99.append(1000 * cuts[98])


def _ratio(these: list[float], those: list[float]) -> str:
    return f"{median(a / b for a, b in zip(these, those, strict=True)):.2f}"


def _rows(found: dict[str, _Found]) -> list[list[str]]:
    rows = [["", "a second", "× alone", "p50 ms", "× alone", "p99 ms", "× alone"]]
    alone = found[_ALONE]
    for title, this in found.items():
        row = [title]
        for ours, base in (
            (this.rate, alone.rate),
            (this.p50, alone.p50),
            (this.p99, alone.p99),
        ):
            row += [f"{median(ours):,.0f}", "" if this is alone else _ratio(ours, base)]
        rows.append(row)
    return rows


async def _run(arguments: argparse.Namespace) -> str:
    found = {title: _Found() for title in _OTHERS}
    async with running_cluster(arguments.database_url, arguments.data_dir, on_disk=True) as cluster:
        url = await cluster.create(_DATABASE)
        try:
            await add_agents(url, 1)
            for number in range(arguments.rounds):
                print(f"round {number + 1} of {arguments.rounds}", flush=True)
                # Whoever goes first in one round goes last in the next.
                for title in list(found)[:: 1 if number % 2 == 0 else -1]:
                    await _measure(arguments, url, found[title], _OTHERS[title])
        finally:
            await cluster.drop(_DATABASE)
        legend = _LEGEND.format(**vars(arguments))
        return f"{conditions(cluster.version)}\n\n{table(_rows(found))}\n\n{legend}"


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text = uvloop.run(_run(arguments))
    print(f"\n{text}")
    if arguments.save:
        save("webhooks", text)


if __name__ == "__main__":
    main()
