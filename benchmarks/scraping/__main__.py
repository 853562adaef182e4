"""benchmarks/scrape: what GET /metrics takes on databases that differ in one thing at a time."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median

import asyncpg

from benchmarks.support.database import add_agents, add_past, running_cluster
from benchmarks.support.load import Order
from benchmarks.support.processes import free_port, generator, python_process
from benchmarks.support.results import Measured, conditions, save, table

_AGENTS = 50
_LEGEND = """\
Medians of interleaved rounds of GET /metrics over HTTP, one scrape after the other, without
compression; every database has the same series and every fact is folded."""

_BLOCKED = """
    WITH root AS (
        INSERT INTO tasks (client_id, task_type, capability_required)
        VALUES ('client-1', 'type-1', 'nobody') RETURNING task_id
    ),
    waiting AS (
        INSERT INTO tasks (client_id, task_type, capability_required, is_blocked)
        SELECT 'client-1', 'type-1', 'nobody', true FROM generate_series(1, $1) RETURNING task_id
    )
    INSERT INTO task_dependencies (task_id, depends_on)
    SELECT waiting.task_id, root.task_id FROM waiting, root
"""
_WEBHOOK = """
    INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
    VALUES (gen_random_uuid(), 'bench-client', 'http://127.0.0.1:9/', '127.0.0.1',
            '{task.created}', 'whsec_')
"""
_PENDING = """
    INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
    SELECT w.webhook_id, w.host, 'task.created', gen_random_uuid(), '{}'
      FROM webhooks AS w, generate_series(1, $1)
"""
_FAILED = "UPDATE webhook_deliveries SET status = 'failed'"


async def _execute(url: str, *statements: tuple[str, tuple[object, ...]]) -> None:
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        for statement, arguments in statements:
            await connection.execute(statement, *arguments)
        while await connection.fetchval("SELECT metrics.fold(50000)"):
            pass
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _finished(url: str, tasks: int) -> None:
    """So many finished tasks, one that waits, one delivery that has ended."""
    await add_agents(url, _AGENTS)
    await add_past(url, tasks, _AGENTS)
    await _execute(url, (_BLOCKED, (1,)), (_WEBHOOK, ()), (_PENDING, (1,)), (_FAILED, ()))


async def _waiting(url: str, tasks: int, waiting: int) -> None:
    await _finished(url, tasks)
    await _execute(url, (_BLOCKED, (waiting,)), (_PENDING, (waiting,)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/scrape", description=__doc__)
    parser.add_argument("--million", action="store_true", help="also 1 M tasks; minutes more")
    parser.add_argument("--rounds", type=int, default=7, help="how often all is measured (7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a measurement (1)")
    parser.add_argument("--save", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--database-url", help="a server to use instead of the embedded one")
    return parser.parse_args()


def _databases(million: bool) -> dict[str, Callable[[str], Awaitable[None]]]:
    found: dict[str, Callable[[str], Awaitable[None]]] = {
        "10 k finished tasks": lambda url: _finished(url, 10_000),
        "… and 100 k blocked tasks, 100 k pending deliveries": lambda url: _waiting(
            url, 10_000, 100_000
        ),
        "100 k finished tasks": lambda url: _finished(url, 100_000),
    }
    if million:
        found["1 M finished tasks"] = lambda url: _finished(url, 1_000_000)
    return found


async def _measure(arguments: argparse.Namespace) -> str:
    measured: dict[str, Measured] = {}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(arguments.database_url))
        load = await stack.enter_async_context(generator())
        ports: dict[str, int] = {}
        for number, (name, fill) in enumerate(_databases(arguments.million).items()):
            url = await cluster.create(f"bench_scrape_{number}")
            stack.push_async_callback(cluster.drop, f"bench_scrape_{number}")
            print(f"filling: {name}", flush=True)
            await fill(url)
            ports[name] = free_port()
            command = ["-c", "from ains.cli import main; main()", "serve", "--no-workers"]
            settings = {"AINS_DATABASE_URL": url, "AINS_ACCESS_LOG": "false"}
            stack.enter_context(
                python_process(
                    [*command, "--port", str(ports[name])], port=ports[name], environment=settings
                )
            )
            measured[name] = Measured()
        for _ in range(arguments.rounds):
            for name, port in ports.items():
                order: Order = {
                    "port": port,
                    "clients": 1,
                    "warmup": 0.3,
                    "seconds": arguments.seconds,
                    "requests": [{"method": "GET", "path": "/metrics", "body": ""}],
                }
                measured[name].reports.append(await load.carry_out(order))
        version = cluster.version
    first = next(iter(measured.values()))
    rows = [["database", "scrape (ms)", "p99 (ms)", "× the first"]]
    for name, found in measured.items():
        time = 1000 * median(1 / rate for rate in found.rates())
        ratio = first.ratio(found)
        rows.append([name, f"{time:.2f}", f"{found.p99():.2f}", f"{ratio:.2f}"])
        if found.bad():
            raise SystemExit(f"{name}: answers that were no success: {found.bad()}")
    return f"{_LEGEND}\n\n{table(rows)}\n\n{conditions(version)}"


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _arguments()
    text = asyncio.run(_measure(arguments))
    print(text)
    if arguments.save:
        save("Scrape", text)


if __name__ == "__main__":
    main()
