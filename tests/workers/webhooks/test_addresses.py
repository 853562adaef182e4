"""No delivery leads to an address that is forbidden, however it is spelt or found."""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from ains.db.pool import Database
from ains.domain.addresses import Network, literal_address
from ains.workers.resolver import AddressInfo, HostResolver
from ains.workers.webhooks import AddrInfo, DeliveryOptions, guarded_socket
from tests.support.databases import eventually
from tests.support.deliveries import ended, statuses, submit, subscribe, worker
from tests.support.forbidden import FORBIDDEN_HOSTS
from tests.support.receiver import Receiver


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
