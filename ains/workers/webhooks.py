"""Sends webhook deliveries: at least once, in order for each task, by any number of replicas.

A delivery is leased in the database, tried, and its attempt recorded together with what follows
from it. A worker that dies leaves a lease that runs out, and another one tries again. Each host has
its own share of the connections, so one that hangs delays nobody else.
"""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver

from ains import __version__
from ains.db import webhooks
from ains.db.statements import Statements
from ains.db.webhooks import Attempt, Claimed
from ains.domain.addresses import Network, is_allowed
from ains.domain.webhooks import Outcome, asked_wait, retry_after, signed_headers
from ains.errors import AinsError
from ains.workers.resolver import HostResolver

__all__ = ["AddressBlocked", "DeliveryOptions", "WebhookSender", "guarded_socket"]

_log = structlog.get_logger(__name__)

_BODY_KEPT: Final = 1024
_ERROR_KEPT: Final = 300
_GONE: Final = 410
_OK: Final = range(200, 300)

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class AddressBlocked(OSError):
    """The address is neither public nor allowed."""

    def __init__(self) -> None:
        """Equal text for every address: aiohttp then raises the first of several as it is."""
        super().__init__("the address is not public")


def guarded_socket(allowed: tuple[Network, ...]) -> Callable[[AddrInfo], socket.socket]:
    """A socket factory that refuses addresses which are neither public nor ``allowed``.

    It sees the very address that is connected to, whatever a name resolved to before.
    """

    def create(info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if not is_allowed(str(address[0]), allowed):
            raise AddressBlocked
        return socket.socket(family, kind, protocol)

    return create


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How deliveries are sent; times in seconds."""

    allowed: tuple[Network, ...] = ()
    delays: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
    timeout: float = 15.0
    give_up_after: float = 5 * 86_400.0
    concurrency: int = 64
    per_host: int = 8
    poll_interval: float = 0.5
    wake_pause: float = 0.1
    """Between rounds that others ask for: one looks in vain most of the time."""
    grace: float = 5.0

    @property
    def lease(self) -> float:
        """Longer than an attempt may take, with room for the pool and a slow commit.

        It is also how long the deliveries of a worker that died have to wait.
        """
        return self.timeout * 2 + 15


class WebhookSender:
    """Sends what falls due, one round of claims after the other."""

    def __init__(
        self,
        db: Statements,
        options: DeliveryOptions,
        *,
        wake: Callable[[], None] = lambda: None,
        resolver: AbstractResolver | None = None,
        randomness: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Work on the deliveries in ``db``.

        Args:
            db: the database.
            options: how to send.
            wake: is called when an attempt has ended, so that there is room for the next round.
            resolver: of host names, a `HostResolver` by default.
            randomness: of the jitter.
            clock: gives Unix time.
        """
        self._db = db
        self._options = options
        self._wake = wake
        self._resolver = resolver
        self._random = randomness or random.Random()  # noqa: S311 - jitter, not secrets
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._in_flight: Counter[str] = Counter()
        self._attempts: set[asyncio.Task[None]] = set()

    async def step(self) -> float:
        """Claim what is due and start sending it; returns the seconds until the next round.

        Raises:
            DatabaseUnavailable: the database is away; try again later.
        """
        if self._session is None:
            self._session = self._open()
        if await self._start_due(self._session):
            return 0.0
        due = None if self._attempts else await webhooks.next_due(self._db)
        pause = self._options.poll_interval
        return pause if due is None else min(max(due, 0.01), pause)

    async def close(self) -> None:
        """Let the attempts that run be recorded, for a while, and disconnect.

        What is cut off is tried again when its lease runs out.
        """
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=self._options.grace)
        late = list(self._attempts)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._options.concurrency,
            limit_per_host=self._options.per_host,
            resolver=self._resolver or HostResolver(),
            ttl_dns_cache=10,
            socket_factory=guarded_socket(self._options.allowed),
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": f"AINS/{__version__}", "Content-Type": "application/json"},
        )

    async def _start_due(self, session: aiohttp.ClientSession) -> int:
        """Start an attempt for each delivery that could be claimed; returns how many changed."""
        room = self._options.concurrency - len(self._attempts)
        if room <= 0:
            return 0
        claimed = await webhooks.claim(
            self._db,
            lease=self._options.lease,
            per_host=self._options.per_host,
            busy=self._in_flight,
            limit=room,
        )
        for delivery in claimed:
            self._in_flight[delivery.host] += 1
            task = asyncio.create_task(self._deliver(session, delivery))
            self._attempts.add(task)
            task.add_done_callback(self._ended)
        if len(claimed) == room:
            return room
        return len(claimed) + await webhooks.set_aside(
            self._db, per_host=self._options.per_host, busy=self._in_flight
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        self._wake()

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Claimed) -> None:
        try:
            attempt = await self._attempt(session, delivery)
            if not await webhooks.finish(self._db, delivery, attempt, self._options.give_up_after):
                _log.warning("webhook.lease_lost", delivery_id=str(delivery.delivery_id))
        except AinsError as error:
            # Not recorded: the lease runs out and the delivery is tried again, at least once.
            _log.warning("webhook.not_recorded", detail=error.detail)
        except Exception:  # noqa: BLE001 - one delivery's trouble must not end the others
            _log.exception("webhook.not_recorded", delivery_id=str(delivery.delivery_id))
        finally:
            self._in_flight[delivery.host] -= 1
            if not self._in_flight[delivery.host]:
                del self._in_flight[delivery.host]

    async def _attempt(self, session: aiohttp.ClientSession, delivery: Claimed) -> Attempt:
        started = time.perf_counter()
        code: int | None = None
        answer: str | None = None
        error: str | None = None
        asked: float | None = None
        outcome: Outcome
        try:
            body = delivery.payload.encode()
            headers = signed_headers(
                delivery.secret, str(delivery.delivery_id), int(self._clock()), body
            )
            async with session.post(
                delivery.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                code = response.status
                asked = asked_wait(response.headers.get("Retry-After"), self._clock())
                kept = await response.content.read(_BODY_KEPT)
                answer = _storable(kept.decode("utf-8", "replace"))
                outcome = "success" if code in _OK else "http_error"
                error = None if code in _OK else f"HTTP {code}"
        except TimeoutError:
            outcome, error = "timeout", f"no answer within {self._options.timeout:g} s"
        except Exception as failure:  # noqa: BLE001 - whatever it is, it must be counted and end
            if not isinstance(failure, aiohttp.ClientError | OSError | ValueError):
                _log.exception("webhook.unforeseen", delivery_id=str(delivery.delivery_id))
            cause = getattr(failure, "os_error", failure)
            outcome = "blocked" if isinstance(cause, AddressBlocked) else "connect_error"
            error = _storable(f"{type(failure).__name__}: {failure}"[:_ERROR_KEPT])
        retry_in = None
        if outcome != "success" and code != _GONE:
            jitter = self._random.uniform(-1, 1)
            delays = self._options.delays
            retry_in = retry_after(delivery.attempt_count, delays, jitter, asked)
        taken = int((time.perf_counter() - started) * 1_000_000)
        return Attempt(outcome, taken, code, answer, error, retry_in)


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not take."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
