"""A host that doesn't answer takes no more than its share, and delays no other."""

import asyncio
import socket
import threading

import asyncpg

from ains.db.pool import Database
from ains.workers.resolver import AddressInfo, HostResolver
from ains.workers.webhooks import DeliveryOptions
from tests.support.databases import eventually
from tests.support.deliveries import LOOPBACK, ended, metric, statuses, submit, subscribe, worker
from tests.support.receiver import Receiver


async def test_endpoint_that_hangs_delays_no_other(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    hanging = Receiver()
    hanging.hang = True
    await hanging.start()
    try:
        await subscribe(pool, hanging.url, "a", host="hangs")
        await subscribe(pool, receiver.url, "b", host="answers")
        await submit(db, 200, "a")
        await submit(db, 50, "b")
        options = DeliveryOptions(allowed=LOOPBACK, timeout=30, poll_interval=0.05, grace=0.1)
        async with worker(pool, options):

            async def delivered() -> bool:
                return len(receiver.got) == 50

            await eventually(delivered, 10)
    finally:
        await hanging.stop()


async def test_name_that_never_resolves_delays_no_other(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    """Look-ups have threads of their own: those of the loop are left to the database."""
    release = threading.Event()

    def lookup(host: str, port: int, family: socket.AddressFamily) -> AddressInfo:
        if host.endswith(".hangs.example"):
            release.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    for number in range(10):
        host = f"h{number}.hangs.example"
        await subscribe(pool, f"http://{host}:{receiver.port}/hook", host=host)
    well = f"http://well.example:{receiver.port}/hook"
    await subscribe(pool, well, "b", host="well.example")
    await submit(db)
    await submit(db, 30, "b")
    options = DeliveryOptions(allowed=LOOPBACK, delays=(), poll_interval=0.02, grace=0.1)
    try:
        async with worker(pool, options, HostResolver(lookup=lookup, timeout=1.0)):

            async def delivered() -> bool:
                return len(receiver.got) == 30

            await eventually(delivered, 0.9)
            await eventually(lambda: ended(db))
    finally:
        release.set()
    assert await statuses(db)() == {"success": 30, "failed": 10}
    assert await metric(db, "ains_webhook_attempts_total", "connect_error") == 10


async def test_no_host_is_claimed_for_beyond_its_share(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    """What waits for a connection in the worker spends its time limit on that."""
    await subscribe(pool, receiver.url)
    await submit(db, 40)
    receiver.hang = True
    options = DeliveryOptions(allowed=LOOPBACK, timeout=30, poll_interval=0.01, grace=0.1)
    async with worker(pool, options):

        async def full() -> bool:
            return receiver.open == 8

        await eventually(full)
        await asyncio.sleep(0.1)  # ten more rounds
        leased = "SELECT count(*) FROM webhook_deliveries WHERE leased_until > now()"
        assert await db.fetchval(leased) == 8
