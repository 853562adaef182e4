"""Looks up the hosts of webhooks, so that no subscriber's DNS keeps anybody else waiting.

The loop's own look-ups share a few threads with everything else in the process (under uvloop two
at once, also for the database's host), and none can be called off. Here each has a thread to
itself; how many there are is bounded, for all and for each domain, and nobody waits long.
"""

import asyncio
import socket
import threading
import time
from asyncio import timeout as deadline
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["HostResolver", "LookupFailed"]

AddressInfo = Sequence[
    tuple[
        socket.AddressFamily,
        socket.SocketKind,
        int,
        str,
        tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
    ]
]
Lookup = Callable[[str, int, socket.AddressFamily], AddressInfo]

_LABELS: Final = 2


class LookupFailed(OSError):
    """The host's address was not found in time."""


def _system(host: str, port: int, family: socket.AddressFamily) -> AddressInfo:
    """The system's own look-up (getaddrinfo), which blocks."""
    return socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )


class HostResolver(AbstractResolver):
    """Look-ups in threads of their own.

    A thread is lost until the system gives up its look-up, which takes as long as resolv.conf says
    (by default ten seconds for each name server). So names of one domain, the last two labels,
    hold ``per_domain`` threads at most, and a name that hung is refused for ``rest`` seconds
    without asking again: who wants to stop the others needs ``limit / per_domain`` domains.
    """

    def __init__(
        self,
        *,
        lookup: Lookup = _system,
        timeout: float = 4.0,
        rest: float = 30.0,
        limit: int = 64,
        per_domain: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """All times in seconds.

        Args:
            lookup: finds addresses, may block for long; runs in threads.
            timeout: a look-up that takes longer fails, the time it waits for a thread included.
            rest: how long a name that took too long is not asked for.
            limit: threads at once.
            per_domain: threads at once for the names of one domain.
            clock: never goes back.
        """
        self._lookup = lookup
        self._timeout = timeout
        self._rest = rest
        self._limit = limit
        self._per_domain = per_domain
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._resting: dict[str, float] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of ``host``.

        Raises:
            LookupFailed: it took too long, just now or lately.
            OSError: there is no such host.
        """
        now = self._clock()
        self._resting = {name: until for name, until in self._resting.items() if until > now}
        if host in self._resting:
            raise LookupFailed(f"looking up {host} took too long a moment ago")
        try:
            async with deadline(self._timeout):
                await self._thread_for(host)
                found = await self._in_thread(host, port, family)
        except TimeoutError:
            raise LookupFailed(f"looking up {host} took over {self._timeout:g} s") from None
        return [_result(host, port, info) for info in found]

    async def close(self) -> None:
        """Forget all; what still runs ends by itself and does not keep the process."""
        for _, turn in self._waiting:
            turn.cancel()
        self._waiting.clear()

    async def _thread_for(self, host: str) -> None:
        """Wait until ``host`` may have a thread, and take it."""
        domain = _domain(host)
        if not self._waiting_in(domain) and self._has_room(domain):
            self._running[domain] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((domain, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(domain)
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove((domain, turn))

    def _waiting_in(self, domain: str) -> bool:
        return any(domain == other for other, _ in self._waiting)

    def _has_room(self, domain: str) -> bool:
        return self._running.total() < self._limit and self._running[domain] < self._per_domain

    def _give_back(self, domain: str) -> None:
        self._running[domain] -= 1
        if not self._running[domain]:
            del self._running[domain]
        for other, turn in self._waiting:
            if not turn.done() and self._has_room(other):
                self._running[other] += 1
                turn.set_result(None)
                return

    async def _in_thread(self, host: str, port: int, family: socket.AddressFamily) -> AddressInfo:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[AddressInfo] = loop.create_future()

        def settle(found: AddressInfo | None, error: Exception | None) -> None:
            self._give_back(_domain(host))
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])

        def work() -> None:
            found, error = None, None
            try:
                found = self._lookup(host, port, family)
            except Exception as trouble:  # noqa: BLE001 - told to who waits
                error = trouble
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, found, error)

        # A daemon, unlike those of an executor: the process can end while it hangs.
        thread = threading.Thread(target=work, name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._give_back(_domain(host))
            raise LookupFailed("no thread could be started") from error
        try:
            return await answer
        except asyncio.CancelledError:
            self._resting[host] = self._clock() + self._rest
            raise


def _domain(host: str) -> str:
    return ".".join(host.lower().rstrip(".").split(".")[-_LABELS:])


def _result(host: str, port: int, info: tuple[object, ...]) -> ResolveResult:
    family, _, protocol, _, address = info
    return ResolveResult(
        hostname=host,
        host=str(address[0]),  # type: ignore[index]  # of the families that were asked for
        port=port,
        family=family,  # type: ignore[typeddict-item]
        proto=protocol,  # type: ignore[typeddict-item]
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
