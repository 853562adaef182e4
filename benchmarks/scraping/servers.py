"""Two yardsticks as processes: the GROUP BY version, and the floor.

``python -m benchmarks.scraping.servers groupby|floor PORT`` serves /metrics of the database that
``BENCH_DATABASE_URL`` names. The GROUP BY version asks the `QUERIES` at each scrape and renders
with prometheus_client. The floor reads metrics.totals, whole, in one statement, and writes
``BENCH_LINES`` lines by the simplest loop there is: what no scrape of as many series that reads its
totals can beat.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import cycle, islice

import asyncpg
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from benchmarks.scraping.queries import QUERIES, Query

_CONNECTION = web.AppKey("connection", asyncpg.Connection)
_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
_TOTALS = "SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM metrics.totals"


def _family(query: Query, rows: list[asyncpg.Record]) -> Metric:
    if query.kind == "histogram":
        histogram = HistogramMetricFamily(query.family, query.family, labels=query.labels)
        for row in rows:
            buckets = [(le, row[le]) for le in query.les]
            histogram.add_metric([row[label] for label in query.labels], buckets, row["sum"])
        return histogram
    kind = CounterMetricFamily if query.kind == "counter" else GaugeMetricFamily
    metric = kind(query.family, query.family, labels=query.labels)
    for row in rows:
        metric.add_metric([row[label] for label in query.labels], row["value"])
    return metric


class _Collected(Collector):
    """Families as prometheus_client's renderer wants them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def _groupby(request: web.Request) -> web.Response:
    connection = request.app[_CONNECTION]
    families = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for query in QUERIES:
            sql = query.grouped if query.kind == "histogram" else query.sql
            families.append(_family(query, await connection.fetch(sql)))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return web.Response(body=generate_latest(registry), headers=_HEADERS)


async def _floor(request: web.Request) -> web.Response:
    rows = await request.app[_CONNECTION].fetch(_TOTALS)
    body = "".join(
        [
            f'{family}{{one="{one}",two="{two}",le="{bucket}"}} {n}.0\n'
            for family, one, two, bucket, n, _, _ in islice(cycle(rows), _lines())
        ]
    )
    return web.Response(body=body.encode(), headers=_HEADERS)


def _lines() -> int:
    return int(os.environ["BENCH_LINES"])


async def _connected(app: web.Application) -> AsyncIterator[None]:
    app[_CONNECTION] = await asyncpg.connect(
        os.environ["BENCH_DATABASE_URL"], command_timeout=None, server_settings={"jit": "off"}
    )
    yield
    await app[_CONNECTION].close()


def main() -> None:
    """Serve until a signal."""
    handler = {"groupby": _groupby, "floor": _floor}[sys.argv[1]]
    app = web.Application()
    app.cleanup_ctx.append(_connected)
    app.router.add_get("/metrics", handler)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
