"""The end of a server, seen by clients that don't know of it yet."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ains.domain.service import ServiceState
from ains.http.drain import drain, say_goodbye
from ains.http.handler import Routes, add_routes
from ains.http.problems import problems

REQUEST = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"

routes = Routes("Test")


@routes.get("/hello")
async def hello(_request: web.Request) -> str:
    """Greet."""
    return "hello"


@asynccontextmanager
async def server(state: ServiceState) -> AsyncIterator[tuple[web.AppRunner, socket.socket]]:
    app = web.Application()
    add_routes(app, routes, around=(say_goodbye(state), problems()))
    runner = web.AppRunner(app)
    await runner.setup()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    try:
        yield runner, listener
    finally:
        await runner.cleanup()
        listener.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b'"hello"'))
    return head


async def test_request_sent_as_the_server_ends_is_answered_and_is_the_last() -> None:
    state = ServiceState()
    async with server(state) as (runner, listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(REQUEST)
        assert b"Connection: close" not in await answer(reader)
        state.stopping = True
        draining = asyncio.create_task(drain(runner, [listener], grace=5))
        await asyncio.sleep(0.2)
        writer.write(REQUEST)
        assert b"Connection: close" in await answer(reader)
        assert await reader.read() == b""
        async with asyncio.timeout(0.5):
            await draining
        writer.close()


async def test_connection_that_waits_to_be_accepted_is_not_reset() -> None:
    state = ServiceState()
    async with server(state) as (runner, listener):
        # Without a turn of the event loop in between: the server can't have accepted it.
        client = socket.create_connection(listener.getsockname())
        state.stopping = True
        draining = asyncio.create_task(drain(runner, [listener], grace=5))
        client.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(REQUEST)
        assert b"Connection: close" in await answer(reader)
        await draining
        writer.close()


async def test_silent_connection_is_not_waited_for_long() -> None:
    state = ServiceState()
    async with server(state) as (runner, listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        state.stopping = True
        started = asyncio.get_running_loop().time()
        await drain(runner, [listener], grace=5)
        assert 0.9 < asyncio.get_running_loop().time() - started < 2
        writer.close()


async def test_no_new_connection_is_accepted() -> None:
    state = ServiceState(stopping=True)
    async with server(state) as (runner, listener):
        address = listener.getsockname()
        await drain(runner, [listener], grace=5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
