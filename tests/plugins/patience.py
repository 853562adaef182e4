"""A test that takes too long fails, and says where it stood; the others go on.

Without that, one test that waits for ever takes all the results of the run with it.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any

import pytest

SECONDS = float(os.environ.get("AINS_TEST_SECONDS", "600"))
"""For the set-up of a test, for the test and for its end, each."""
_AGAIN = 30.0
"""Seconds until the next try, where somebody caught the failure and went on waiting."""


class NotDone(SystemExit):
    """Ends a test wherever it is: of all exceptions, asyncio lets this kind through."""


def standing() -> str:
    """Where each thread and each asyncio task is."""
    with tempfile.TemporaryFile("w+") as threads:
        faulthandler.dump_traceback(threads)
        threads.seek(0)
        lines = threads.read().splitlines()
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        tasks = set()
    for task in tasks:
        lines += [f"Task {task.get_name()!r}", *_awaiting(task.get_coro())]
    return "\n".join(lines)


def _awaiting(coroutine: Any) -> Iterator[str]:
    """The lines that it and what it waits for stand at; the task itself knows the first only."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        code = frame.f_code
        yield f"  File {code.co_filename!r}, line {frame.f_lineno} in {code.co_name}"
        coroutine = coroutine.cr_await


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    told = f"still not done; AINS_TEST_SECONDS={SECONDS:g}\n{standing()}"
    print(told, file=sys.__stderr__, flush=True)  # at once: who knows whether the run ends
    raise NotDone(told)


def _limited() -> Generator[None, object, object]:
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, _AGAIN)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _limited())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _limited())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    return (yield from _limited())
