"""Answers of megabytes: whole in every form, and others are served while they are made."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient
from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors.base import Family, Row
from collectors.exposition import compressed, exposition, render
from collectors.negotiation import TEXT
from collectors.rowmetric import RowMetric
from collectors.scrape import Scraper
from tests.support.scraping import client_of

COUNTER = Family("ains_x_total", "counter", "X", ("agent_id", "task_type"))
HISTOGRAM = Family("ains_h", "histogram", "H", ("task_type",), (1.0, 5.0))
COUNTS: list[Row] = [((f"agent-{n}", f"type-{n % 100}"), n, None) for n in range(30_000)]
TIMES: list[Row] = [((f"type-{n}",), (n, 1, 2), n / 4, None, ()) for n in range(3_000)]


def portions(rows: list[Row]) -> list[list[Row]]:
    return [rows[first : first + 250] for first in range(0, len(rows), 250)]


class Many(Collector):
    def collect(self) -> Iterator[Metric]:
        yield RowMetric(COUNTER, portions(COUNTS))
        yield RowMetric(HISTOGRAM, portions(TIMES))


async def no_database() -> "asyncpg.pool.Pool[asyncpg.Record]":
    raise OSError("not in this test")


@pytest.fixture
async def client() -> AsyncIterator[TestClient[Any, Any]]:
    async with client_of(Scraper(no_database, [], in_process=[Many()])) as client:
        yield client


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_large_answer_arrives_whole(client: TestClient[Any, Any], encoding: str) -> None:
    expected = render(Many().collect(), TEXT)
    for _ in range(2):
        async with client.get("/metrics", headers={"Accept-Encoding": encoding}) as response:
            assert response.headers.get("Content-Encoding", "identity") == encoding
            assert (await response.read()).startswith(expected)


class Moving(Collector):
    """Shows a number that changes all the time, at both ends of much else."""

    def __init__(self) -> None:
        self.number = 0

    async def move(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def collect(self) -> Iterator[Metric]:
        for name in ("ains_first", "ains_last"):
            yield RowMetric(Family(name, "gauge", "X"), [[((), self.number, None)]])
            yield from Many().collect()


async def test_what_the_process_counts_is_of_one_moment() -> None:
    shown = Moving()
    moving = asyncio.create_task(shown.move())
    async with client_of(Scraper(no_database, [], in_process=[shown])) as client:
        for _ in range(5):
            async with client.get("/metrics") as response:
                lines = (await response.text()).splitlines()
            first, last = (
                next(line for line in lines if line.startswith(f"{name} "))
                for name in ("ains_first", "ains_last")
            )
            assert first.split()[1] == last.split()[1]
    moving.cancel()


async def test_head_tells_the_length(client: TestClient[Any, Any]) -> None:
    identity = {"Accept-Encoding": "identity"}
    async with client.get("/metrics", headers=identity) as whole:
        length = len(await whole.read())
    async with client.head("/metrics", headers=identity) as response:
        # The time that each scrape took is in it.
        assert abs(int(response.headers["Content-Length"]) - length) < 100
        assert await response.read() == b""


async def turns_of_others(work: Awaitable[list[bytes]]) -> tuple[int, list[bytes]]:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    done = await work
    counting.cancel()
    return turns, done


async def test_others_have_their_turn_while_much_is_rendered() -> None:
    turns, pieces = await turns_of_others(exposition(Many().collect(), TEXT))
    assert turns > 20
    assert max(map(len, pieces)) < 50_000
    assert b"".join(pieces) == render(Many().collect(), TEXT)


async def test_others_have_their_turn_while_much_is_compressed() -> None:
    pieces = await exposition(Many().collect(), TEXT)
    whole = b"".join(pieces)
    turns, packed = await turns_of_others(compressed(pieces))
    assert turns > 5
    assert gzip.decompress(b"".join(packed)) == whole
    assert sum(map(len, packed)) < len(whole) / 5
