"""Workers never end by themselves, and always when asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from ains.errors import DatabaseUnavailable
from ains.workers.runner import Worker, Workers
from ains.workers.wakeup import Throttle, Wakeup
from tests.support.databases import eventually


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[Workers]:
    supervised = Workers(workers)
    supervised.start()
    try:
        yield supervised
    finally:
        await supervised.stop(0)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, seconds, every=0.002)


async def test_call_before_the_sleep_is_not_lost() -> None:
    wakeup = Wakeup()
    wakeup()
    async with asyncio.timeout(1):
        await wakeup.sleep(60)


async def test_call_ends_the_sleep() -> None:
    wakeup = Wakeup()
    sleeper = asyncio.create_task(wakeup.sleep(60))
    await asyncio.sleep(0)
    wakeup()
    async with asyncio.timeout(1):
        await sleeper


async def test_sleep_ends_by_itself() -> None:
    async with asyncio.timeout(1):
        await Wakeup().sleep(0.01)


async def test_throttle_passes_on_the_first_call_at_once_and_the_next_ones_together() -> None:
    calls: list[None] = []
    throttle = Throttle(lambda: calls.append(None), 0.05)
    throttle()
    assert len(calls) == 1
    for _ in range(100):
        throttle()
    assert len(calls) == 1
    await until(lambda: len(calls) == 2)
    await asyncio.sleep(0.2)
    assert len(calls) == 2
    throttle()
    assert len(calls) == 3


async def test_worker_runs_again_after_the_pause_it_asked_for() -> None:
    rounds: list[float] = []

    async def step() -> float:
        rounds.append(asyncio.get_running_loop().time())
        return 0.05 if len(rounds) == 1 else 60

    async with running(Worker("w", step)):
        await until(lambda: len(rounds) == 2)
    assert rounds[1] - rounds[0] >= 0.05


async def test_wake_up_during_a_round_leads_to_another() -> None:
    rounds = 0
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        inside.set()
        await go_on.wait()
        return 60

    worker = Worker("w", step)
    async with running(worker):
        await inside.wait()
        worker.wakeup()
        go_on.set()
        await until(lambda: rounds == 2)


@pytest.mark.parametrize("error", [DatabaseUnavailable(), ZeroDivisionError("a mistake")])
async def test_failing_worker_is_logged_and_tried_again(error: Exception) -> None:
    rounds = 0

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise error
        return 60

    worker = Worker("dispatcher", step)
    with capture_logs() as logs:
        async with running(worker):
            await until(lambda: rounds == 2)
            assert worker.failures >= 1
            assert worker.error is not None
            await until(lambda: worker.rounds == 1)
    assert worker.failures == 0
    assert not worker.error
    assert logs[0]["worker"] == "dispatcher"
    assert logs[-1]["event"] == "worker is back"


async def test_database_that_stays_away_is_said_once() -> None:
    rounds = 0

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        raise DatabaseUnavailable

    with capture_logs() as logs:
        async with running(Worker("w", step)):
            await until(lambda: rounds == 3)
    assert [entry["event"] for entry in logs] == ["worker waits"]


async def test_wake_ups_do_not_hurry_a_failing_worker() -> None:
    rounds = 0

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        raise DatabaseUnavailable

    worker = Worker("w", step)
    async with running(worker):
        await until(lambda: rounds == 1)
        for _ in range(50):
            worker.wakeup()
            await asyncio.sleep(0)
        assert rounds == 1


async def test_stop_lets_a_round_finish_and_starts_no_other() -> None:
    finished = 0
    inside = asyncio.Event()

    async def step() -> float:
        nonlocal finished
        inside.set()
        await asyncio.sleep(0.05)
        finished += 1
        return 0

    workers = Workers([Worker("w", step)])
    workers.start()
    await inside.wait()
    await workers.stop(5)
    assert finished == 1


async def test_stop_cancels_what_takes_too_long() -> None:
    cancelled = False
    inside = asyncio.Event()

    async def step() -> float:
        nonlocal cancelled
        inside.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise
        return 0

    workers = Workers([Worker("slow", step)])
    workers.start()
    await inside.wait()
    with capture_logs() as logs:
        await workers.stop(0.01)
    assert cancelled
    assert logs[0]["workers"] == ["slow"]


async def test_stop_does_not_wait_for_a_backoff() -> None:
    rounds = 0

    async def step() -> float:
        nonlocal rounds
        rounds += 1
        raise DatabaseUnavailable

    workers = Workers([Worker("w", step)])
    workers.start()
    await until(lambda: rounds == 4)  # the next try is most of a second away
    async with asyncio.timeout(0.2):
        await workers.stop(5)
