"""A test that waits for ever fails, tells where it stood, and the next one runs."""

import pytest

pytest_plugins = ["pytester"]

_SUITE = """
import asyncio
import threading

import pytest

async def never():
    await asyncio.Event().wait()

async def test_loop():
    await never()

async def test_uncancellable():
    while True:
        try:
            await never()
        except asyncio.CancelledError:
            pass

async def test_busy():
    async def sleepless():
        while True: ...
    await asyncio.create_task(sleepless())

def test_thread():
    threading.Event().wait()

@pytest.fixture
async def endless():
    yield
    await never()

async def test_teardown(endless): ...

async def test_passes(): ...
"""


def test_what_never_ends_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_TEST_SECONDS", "0.5")
    pytester.makepyfile(_SUITE)
    pytester.makeini("""
        [pytest]
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = session
        asyncio_default_test_loop_scope = session
    """)
    result = pytester.runpytest_subprocess("-p", "tests.plugins.patience", timeout=120)
    # Who waited for what was ended, ends in the next one's time; one can't be cancelled at all.
    result.assert_outcomes(passed=1, failed=4, errors=2)
    result.stdout.fnmatch_lines(["*still not done; AINS_TEST_SECONDS=0.5*"])
    result.stdout.fnmatch_lines(["* in never"])
