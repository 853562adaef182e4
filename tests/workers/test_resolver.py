"""Look-ups of webhooks' hosts; none leaves the process."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from ains.workers.resolver import AddressInfo, HostResolver, LookupFailed


class Names:
    """Finds the loopback for every name, late for those of ``hangs.example``."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.release = threading.Event()

    def __call__(self, host: str, port: int, family: socket.AddressFamily) -> AddressInfo:
        self.asked[host] += 1
        if host.endswith("hangs.example"):
            self.release.wait(20)
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.release.set()


async def test_addresses_and_errors_are_the_system_s(names: Names) -> None:
    resolver = HostResolver(lookup=names)
    [found] = await resolver.resolve("a.example", 80)
    assert (found["host"], found["port"], found["family"]) == ("127.0.0.1", 80, socket.AF_INET)
    with pytest.raises(socket.gaierror):
        await resolver.resolve("nowhere.example", 80)


async def test_names_that_hang_fail_soon_and_stop_nobody_else(names: Names) -> None:
    resolver = HostResolver(lookup=names, timeout=0.2, limit=6, per_domain=4)
    hanging = [f"{number}.hangs.example" for number in range(20)]
    started = asyncio.gather(*[resolver.resolve(name) for name in hanging], return_exceptions=True)
    await asyncio.sleep(0)
    async with asyncio.timeout(0.15):
        for number in range(20):
            await resolver.resolve(f"{number}.well.example")
    assert {type(each) for each in await started} == {LookupFailed}
    assert sum(count for name, count in names.asked.items() if "hangs" in name) == 4


async def test_name_that_hung_is_left_alone_for_a_while(names: Names) -> None:
    now = 0.0
    resolver = HostResolver(lookup=names, timeout=0.05, rest=30, clock=lambda: now)
    for _ in range(3):
        with pytest.raises(LookupFailed):
            await resolver.resolve("hangs.example")
    assert names.asked["hangs.example"] == 1
    now = 31.0
    names.release.set()
    assert await resolver.resolve("hangs.example")


async def test_threads_are_used_again_when_late_answers_come(names: Names) -> None:
    resolver = HostResolver(lookup=names, timeout=5, limit=2, per_domain=2)
    many = [resolver.resolve(f"{number}.hangs.example") for number in range(10)]
    gathered = asyncio.gather(*many)
    await asyncio.sleep(0.05)
    assert names.asked.total() == 2
    names.release.set()
    assert len(await gathered) == 10


async def test_who_stops_waiting_leaves_the_thread_to_others(names: Names) -> None:
    resolver = HostResolver(lookup=names, timeout=5, limit=1)
    first = asyncio.create_task(resolver.resolve("hangs.example"))
    await asyncio.sleep(0.01)
    second, third = (asyncio.create_task(resolver.resolve(f"{n}.example")) for n in "bc")
    await asyncio.sleep(0.01)
    second.cancel()
    names.release.set()
    await first
    await third
    assert names.asked == {"hangs.example": 1, "c.example": 1}
