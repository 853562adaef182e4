"""Deliveries over real sockets, out of a real database."""

import asyncio
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from ains.db import webhooks
from ains.db.pool import Database
from ains.domain.addresses import Network, literal_address, parse_networks
from ains.domain.ids import uuid7
from ains.domain.webhooks import EVENTS, Outcome, new_secret
from ains.workers.resolver import AddressInfo, HostResolver
from ains.workers.runner import Worker, Workers
from ains.workers.wakeup import Wakeup
from ains.workers.webhooks import AddrInfo, DeliveryOptions, WebhookSender, guarded_socket
from tests.support.databases import eventually
from tests.support.forbidden import FORBIDDEN_HOSTS

SECRET = new_secret(bytes(24))
LOOPBACK = parse_networks(["127.0.0.0/8"])
FAST = DeliveryOptions(allowed=LOOPBACK, delays=(0.05,) * 30, timeout=1.0, poll_interval=0.05)


class Receiver:
    """An endpoint that keeps what it got and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hang = False
        self.open = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.open += 1
        if self.hang:
            await asyncio.sleep(60)
        self.got.append((dict(request.headers), body))
        return web.Response(status=self.status, headers=self.headers, text="x" * 5000)

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_post("/hook", self.handle)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port: int = self.runner.addresses[0][1]

    async def stop(self) -> None:
        await self.runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def pool(service_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
        " SELECT n, n, 'http://a', '00', '00' FROM unnest('{a,b}'::text[]) AS n"
    )
    database = Database(service_url, max_size=8)
    yield database
    await database.close()


async def subscribe(pool: Database, url: str, agent: str = "a", host: str = "127.0.0.1") -> Any:
    row = await webhooks.register(
        pool, uuid7(), agent_id=agent, url=url, host=host, events=EVENTS, secret=SECRET
    )
    return row["webhook_id"]


async def submit(db: asyncpg.Connection, count: int = 1, agent: str = "a") -> None:
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT $2, 't', 'x' FROM generate_series(1, $1)",
        count,
        agent,
    )


@asynccontextmanager
async def worker(
    pool: Database, options: DeliveryOptions = FAST, resolver: AbstractResolver | None = None
) -> AsyncIterator[None]:
    wakeup = Wakeup()
    sender = WebhookSender(pool, options, wake=wakeup, resolver=resolver)
    workers = Workers([Worker("webhooks", sender.step, wakeup)])
    workers.start()
    try:
        yield
    finally:
        await workers.stop(1)
        await sender.close()


def statuses(db: asyncpg.Connection) -> Callable[[], Awaitable[Counter[str]]]:
    async def count() -> Counter[str]:
        rows = await db.fetch("SELECT status, count(*) AS n FROM webhook_deliveries GROUP BY 1")
        return Counter({row["status"]: row["n"] for row in rows})

    return count


async def ended(db: asyncpg.Connection) -> bool:
    return not (await statuses(db)())["pending"]


async def metric(db: asyncpg.Connection, family: str, label: str = "") -> int:
    value: int = await db.fetchval(
        "SELECT coalesce(sum(n), 0)::bigint FROM metrics.series WHERE family = $1 AND label_2 = $2",
        family,
        label,
    )
    return value


async def test_every_delivery_verifies_and_keeps_the_bytes(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('a', $1, 'x')",
        'Käse "\n\\ 🧀',
    )
    async with worker(pool):
        await eventually(lambda: ended(db))
    headers, body = receiver.got[0]
    event = Webhook(SECRET).verify(body, headers)
    assert event["type"] == "task.created"
    assert event["data"]["task_type"] == 'Käse "\n\\ 🧀'
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 1
    assert await metric(db, "ains_webhook_attempts_total", "success") == 1
    assert await metric(db, "ains_webhook_deliveries_pending") == 0
    kept = await db.fetchval("SELECT response_body FROM webhook_attempts")
    assert kept == "x" * 1024


async def test_events_of_one_task_arrive_in_order(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 20)
    await db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'b'")
    await db.execute("UPDATE tasks SET status = 'ACTIVE', started_at = now()")
    await db.execute("UPDATE tasks SET status = 'COMPLETED'")
    async with worker(pool), worker(pool):
        await eventually(lambda: ended(db))
    verify = Webhook(SECRET).verify
    seen: dict[str, list[str]] = {}
    for headers, body in receiver.got:
        event = verify(body, headers)
        seen.setdefault(event["data"]["task_id"], []).append(event["type"])
    order = ["task.created", "task.assigned", "task.started", "task.completed"]
    assert list(seen.values()) == [order] * 20


async def test_receiver_that_dies_and_comes_back_gets_everything(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 30)
    await receiver.stop()

    async def refused() -> bool:
        return await metric(db, "ains_webhook_attempts_total", "connect_error") > 0

    async with worker(pool):
        await eventually(refused)
        await receiver.start(receiver.port)
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"success": 30}
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 30
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 30
    assert await metric(db, "ains_webhook_attempts_total", "success") == 30


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


async def test_retries_are_used_up_and_counted(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 500
    await subscribe(pool, receiver.url)
    await submit(db)
    options = DeliveryOptions(allowed=LOOPBACK, delays=(0.01, 0.01), poll_interval=0.02)
    async with worker(pool, options):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 1}
    assert await metric(db, "ains_webhook_attempts_total", "http_error") == len(receiver.got) == 3
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 1


async def test_redirect_is_not_followed(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool, DeliveryOptions(allowed=LOOPBACK, delays=(), poll_interval=0.02)):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 1
    assert await statuses(db)() == {"failed": 1}


async def test_gone_ends_the_subscription_and_what_waits_for_it(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 410
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 40)
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert not (await webhooks.show(pool, webhook))["active"]
    assert await statuses(db)() == {"failed": 40}
    assert len(receiver.got) < 40
    await submit(db)
    assert sum((await statuses(db)()).values()) == 40


async def test_endpoint_that_fails_for_days_is_given_up(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 503
    webhook = await subscribe(pool, receiver.url)
    await db.execute("UPDATE webhooks SET failing_since = now() - interval '5 days 1 second'")
    await submit(db)
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert not (await webhooks.show(pool, webhook))["active"]
    assert await db.fetchval("SELECT inactive_reason FROM webhooks") == "failing"


def attempted(db: asyncpg.Connection, count: int = 1) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return bool(await db.fetchval("SELECT count(*) >= $1 FROM webhook_attempts", count))

    return found


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("3600", 3500, 3600),
        ("-5", 0, 0.1),
        ("9" * 400, 86_300, 86_400),
        ("9" * 5000, 0, 0.1),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_300, 86_400),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0, 0.1),
        ("Mon, 01 Jan 2024 00:00:00 +999999999999999", 0, 0.1),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0, 0.1),
        ("Fri, 31 Dec 99999999999999999999 00:00:00 GMT", 0, 0.1),
        ("soon", 0, 0.1),
        ("", 0, 0.1),
    ],
)
async def test_retry_after_is_honoured_as_far_as_it_makes_sense(
    pool: Database,
    db: asyncpg.Connection,
    receiver: Receiver,
    asked: str,
    least: float,
    most: float,
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": asked}
    await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool, DeliveryOptions(allowed=LOOPBACK, delays=(0.05,), poll_interval=0.02)):
        await eventually(attempted(db))
    wait = await db.fetchval(
        "SELECT extract(epoch FROM coalesce(d.next_attempt_at, a.attempted_at) - a.attempted_at"
        " - a.duration_us * interval '1 us')::float"
        "  FROM webhook_deliveries AS d JOIN webhook_attempts AS a USING (delivery_id)"
        " ORDER BY a.attempt_id LIMIT 1"
    )
    # The attempt is dated by the worker's clock, the next one by the database's.
    assert least - 0.1 <= wait <= most + 1


class Broken(AbstractResolver):
    """Fails as nobody has foreseen."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        raise ZeroDivisionError(f"{host} \0 \ud800")

    async def close(self) -> None:
        pass


async def test_unforeseen_trouble_is_a_failed_attempt(
    pool: Database, db: asyncpg.Connection
) -> None:
    await subscribe(pool, "http://broken.example/hook", host="broken.example")
    await submit(db)
    options = DeliveryOptions(delays=(0.01,), poll_interval=0.02)
    async with worker(pool, options, Broken()):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 1}
    assert await metric(db, "ains_webhook_attempts_total", "connect_error") == 2
    error = await db.fetchval("SELECT last_error FROM webhook_deliveries")
    assert error.startswith("ZeroDivisionError: broken.example")


async def test_lease_of_a_dead_worker_runs_out(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db)
    claimed = await webhooks.claim(pool, lease=0.3, per_host=9, busy={}, limit=9)
    assert len(claimed) == 1
    assert await webhooks.claim(pool, lease=0.3, per_host=9, busy={}, limit=9) == []
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 1
    # The dead one comes back and reports: it counts for nothing.
    late = await webhooks.finish(pool, claimed[0], webhooks.Attempt("success", 1), 60)
    assert not late
    assert await metric(db, "ains_webhook_attempts_total", "success") == 1


async def test_two_workers_send_nothing_twice(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 200)
    async with worker(pool), worker(pool), worker(pool):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 200
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 200


def forbidden_addresses(host: str, port: int, family: socket.AddressFamily) -> AddressInfo:
    """The address of ``n7.example`` is the table's seventh; that of a host is what it spells."""
    if found := re.fullmatch(r"n(\d+)\.example", host):
        host = FORBIDDEN_HOSTS[int(found[1])].strip("[]").replace("%25", "%")
    address = literal_address(host)
    if address is None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    is_six = ":" in address
    where = (address, port, 0, 0) if is_six else (address, port)
    return [(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_STREAM, 6, "", where)]


@pytest.mark.parametrize("form", ["a name that turns into it", "the host itself"])
async def test_no_forbidden_address_gets_as_far_as_a_connect(
    pool: Database,
    db: asyncpg.Connection,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    is_name = form.startswith("a name")
    made: list[str] = []
    connected: list[tuple[Any, ...]] = []

    def recorded(allowed: tuple[Network, ...]) -> Callable[[AddrInfo], socket.socket]:
        create = guarded_socket(allowed)

        def make(info: AddrInfo) -> socket.socket:
            made.append(str(info[4][0]))
            return create(info)

        return make

    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def recorded_connect(sock: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[1] == receiver.port:
            connected.append(address)
            raise ConnectionRefusedError  # nothing leaves, even if the guard let it
        await connect(sock, address)

    monkeypatch.setattr("ains.workers.webhooks.guarded_socket", recorded)
    for number, host in enumerate(FORBIDDEN_HOSTS):
        name = f"n{number}.example" if is_name else host
        url = f"http://{name}:{receiver.port}/hook"
        await subscribe(pool, url, host=name)
    await submit(db)
    monkeypatch.setattr(loop, "sock_connect", recorded_connect)
    options = DeliveryOptions(delays=(), poll_interval=0.02)
    async with worker(pool, options, HostResolver(lookup=forbidden_addresses, per_domain=64)):
        await eventually(lambda: ended(db))
    monkeypatch.undo()
    assert receiver.got == []
    assert connected == []
    assert await statuses(db)() == {"failed": len(FORBIDDEN_HOSTS)}
    rows = await db.fetch("SELECT outcome, count(*) FROM webhook_attempts GROUP BY 1")
    blocked = {row["outcome"]: row["count"] for row in rows}["blocked"]
    assert blocked == len(made)
    # Some spellings are no URL for the client.
    assert blocked == len(FORBIDDEN_HOSTS) if is_name else blocked >= 40


async def test_no_answer_in_time_is_a_timeout(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    assert DeliveryOptions().timeout == 15
    receiver.hang = True
    await subscribe(pool, receiver.url)
    await submit(db)
    options = DeliveryOptions(allowed=LOOPBACK, delays=(), timeout=0.3, poll_interval=0.02)
    async with worker(pool, options):
        await eventually(lambda: ended(db))
    row = await db.fetchrow("SELECT outcome, duration_us, error FROM webhook_attempts")
    assert row is not None
    assert (row["outcome"], row["error"]) == ("timeout", "no answer within 0.3 s")
    assert 300_000 <= row["duration_us"] < 1_500_000
    assert await metric(db, "ains_webhook_attempts_total", "timeout") == 1


async def test_events_wait_for_the_first_one_that_is_being_retried(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 500
    await subscribe(pool, receiver.url)
    await submit(db)
    await db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'b'")
    await db.execute("UPDATE tasks SET status = 'ACTIVE', started_at = now()")
    async with worker(pool):
        await eventually(attempted(db, 3))
        receiver.status = 200
        await eventually(lambda: ended(db))
    types = [json.loads(body)["type"] for _, body in receiver.got]
    assert types[:-2] == ["task.created"] * (len(types) - 2)
    assert types[-2:] == ["task.assigned", "task.started"]
    assert len(types) >= 6


async def test_redelivery_counts_again_and_stays_balanced(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool):
        await eventually(lambda: ended(db))
        delivery = await db.fetchval("SELECT delivery_id FROM webhook_deliveries")
        again = await webhooks.redeliver(pool, webhook, delivery)
        assert again["status"] == "pending"
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 2
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 2
    assert await metric(db, "ains_webhook_attempts_total", "success") == 2


async def claim_one(pool: Database, lease: float = 60) -> webhooks.Claimed:
    [claimed] = await webhooks.claim(pool, lease=lease, per_host=1, busy={}, limit=1)
    return claimed


async def balanced(db: asyncpg.Connection) -> int:
    """Successes of attempts and deliveries, which are equally many."""
    attempts = await metric(db, "ains_webhook_attempts_total", "success")
    assert attempts == await metric(db, "ains_webhook_deliveries_total", "success")
    rows = await db.fetchval("SELECT count(*) FROM webhook_attempts WHERE outcome = 'success'")
    assert attempts == rows
    pending = await db.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'")
    assert await metric(db, "ains_webhook_deliveries_pending") == pending
    return attempts


@pytest.mark.parametrize("reason", ["deleted", "gone"])
async def test_redelivery_is_tried_although_the_subscription_has_ended(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, reason: str
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 3)
    if reason == "deleted":
        await webhooks.deactivate(pool, webhook, "a")
    receiver.status = 410
    async with worker(pool):
        await eventually(lambda: ended(db))
        assert await db.fetchval("SELECT inactive_reason FROM webhooks") == reason
        before = len(receiver.got)
        receiver.status = 500
        delivery = await db.fetchval("SELECT max(delivery_id::text)::uuid FROM webhook_deliveries")
        await webhooks.redeliver(pool, webhook, delivery)

        async def tried_again() -> bool:
            return len(receiver.got) >= before + 3

        await eventually(tried_again)
        receiver.status = 200
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 2, "success": 1}
    assert await balanced(db) == 1


async def test_end_of_a_subscription_leaves_what_was_redelivered_by_hand(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 3)
    first = await claim_one(pool)
    other = await db.fetchval(
        "SELECT delivery_id FROM webhook_deliveries WHERE delivery_id <> $1 LIMIT 1",
        first.delivery_id,
    )
    await webhooks.redeliver(pool, webhook, other)
    assert await webhooks.finish(pool, first, webhooks.Attempt("http_error", 1, 410), 60)
    assert await statuses(db)() == {"failed": 2, "pending": 1}
    await webhooks.deactivate(pool, webhook, "a")
    assert await statuses(db)() == {"failed": 3}
    assert await balanced(db) == 0


async def test_event_that_commits_after_the_end_of_its_subscription_is_not_sent(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, database_url: str
) -> None:
    webhook = await subscribe(pool, receiver.url)
    late = await asyncpg.connect(database_url)
    try:
        async with late.transaction():
            await submit(late, 2)
            await webhooks.deactivate(pool, webhook, "a")
    finally:
        await late.close()
    assert await statuses(db)() == {"pending": 2}
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 2}
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 2
    assert receiver.got == []
    assert await balanced(db) == 0


async def test_endpoint_is_given_up_together_with_all_that_waits_for_it(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    """Also by several attempts at once, of which none waits for another for ever."""
    await subscribe(pool, receiver.url)
    await submit(db, 60)
    claimed = await webhooks.claim(pool, lease=60, per_host=8, busy={}, limit=99)
    gone = webhooks.Attempt("http_error", 1, 410)
    finished = await asyncio.gather(*[webhooks.finish(pool, each, gone, 60) for each in claimed])
    assert len(finished) == 8
    assert sum(finished) == 1
    assert await statuses(db)() == {"failed": 60}
    assert await metric(db, "ains_webhook_attempts_total", "http_error") == 8


async def test_failures_of_one_webhook_and_its_successes_do_not_deadlock(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 200)
    ok, bad = webhooks.Attempt("success", 1, 200), webhooks.Attempt("timeout", 1, retry_in=60)
    for _ in range(8):
        claimed = await webhooks.claim(pool, lease=60, per_host=24, busy={}, limit=99)
        results = [ok if number % 3 else bad for number in range(len(claimed))]
        async with asyncio.timeout(5):
            finished = await asyncio.gather(
                *[
                    webhooks.finish(pool, each, result, 999)
                    for each, result in zip(claimed, results, strict=True)
                ]
            )
        assert all(finished)
    assert await balanced(db) == 8 * 16


@pytest.mark.parametrize("meanwhile", ["redelivered", "deleted", "leased by another"])
@pytest.mark.parametrize("outcome", ["success", "timeout"])
async def test_attempt_that_lost_its_lease_counts(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, meanwhile: str, outcome: Outcome
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db)
    claimed = await claim_one(pool, lease=0.01)
    other: webhooks.Claimed | None = None
    if meanwhile == "redelivered":
        await webhooks.redeliver(pool, webhook, claimed.delivery_id)
    elif meanwhile == "deleted":
        await webhooks.deactivate(pool, webhook, "a")
    else:
        await asyncio.sleep(0.02)
        other = await claim_one(pool)
    attempt = webhooks.Attempt(outcome, 1, retry_in=None if outcome == "success" else 60)
    assert not await webhooks.finish(pool, claimed, attempt, 60)
    assert await metric(db, "ains_webhook_attempts_total", outcome) == 1
    await balanced(db)
    if other is not None:
        held = await webhooks.finish(pool, other, webhooks.Attempt("success", 1), 60)
        assert held == (outcome == "timeout")
    if outcome == "success" or other is not None:
        assert await statuses(db)() == {"success": 1}
        assert await balanced(db) == 1
    else:
        expected = "failed" if meanwhile == "deleted" else "pending"
        assert await statuses(db)() == {expected: 1}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM webhook_deliveries",
        "DELETE FROM webhooks",
        "TRUNCATE webhook_deliveries CASCADE",
        "TRUNCATE webhooks CASCADE",
        "TRUNCATE agents CASCADE",
    ],
)
async def test_deliveries_that_are_taken_away_are_pending_no_more(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, statement: str
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 5)
    assert await webhooks.finish(pool, await claim_one(pool), webhooks.Attempt("success", 1), 60)
    assert await metric(db, "ains_webhook_deliveries_pending") == 4
    await db.execute(statement)
    assert await metric(db, "ains_webhook_deliveries_pending") == 0
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 1
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 0


async def test_events_that_wait_behind_another_are_not_in_the_way(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a claim looks at; when the first of them has arrived the others follow at once."""
    monkeypatch.setattr(webhooks, "_LOOKED_AT", 5)
    await subscribe(pool, receiver.url)
    await submit(db)
    await db.execute(
        "INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)"
        " SELECT webhook_id, host, event_type, subject_id, i::text"
        "   FROM webhook_deliveries, generate_series(1, 23) AS i"
    )
    await db.execute(
        "UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour'"
        " WHERE sequence = (SELECT min(sequence) FROM webhook_deliveries)"
    )
    await submit(db)
    async with worker(pool):

        async def delivered() -> bool:
            return len(receiver.got) == 1

        await eventually(delivered)
        due = "SELECT count(*) FROM webhook_deliveries WHERE next_attempt_at <= now()"
        assert await db.fetchval(due) <= 5
        await db.execute(
            "UPDATE webhook_deliveries SET next_attempt_at = now()"
            " WHERE next_attempt_at > now() + interval '59 minutes'"
        )
        await eventually(lambda: ended(db))
    assert [body for _, body in receiver.got[2:]] == [b"%d" % i for i in range(1, 24)]
