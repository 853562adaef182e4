"""Ends the conversation with clients so that no request of theirs is lost.

A client that reuses its connection may send a request at the moment the server closes it, and then
can't know whether it was served. So at shutdown the answer to each request says
``Connection: close`` (RFC 9112, section 9.6), and a connection is closed only after such an answer,
or when it has been silent for a while.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
from asyncio import timeout as deadline
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from ains.domain.service import ServiceState
from ains.http.handler import Wrapper

__all__ = ["drain", "say_goodbye"]

_SILENCE_SECONDS: Final = 1.0
_BACKLOG_SECONDS: Final = 0.02
_POLL_SECONDS: Final = 0.01

_SO_ATTACH_FILTER: Final = 26
# Classic BPF (linux/filter.h) over the TCP header: load the flags, keep SYN and ACK; drop what has
# SYN alone, which asks for a new connection, and let everything else pass.
_REFUSE_SYN: Final = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)


def say_goodbye(state: ServiceState) -> Wrapper:
    """Return the wrapper that makes each answer the last of its connection once ``state`` stops.

    It belongs around whatever turns errors into answers.
    """

    def wrap(handler: Handler, _method: str, _endpoint: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = await handler(request)
            if state.stopping:
                response.force_close()
            return response

        return answer

    return wrap


async def drain(runner: web.BaseRunner, sockets: Iterable[socket.socket], grace: float) -> None:
    """Accept no more connections and wait until clients have been answered, and know that it ends.

    Returns when no connection is left, or only such as are silent or, after ``grace`` seconds,
    still busy; ``runner.cleanup()`` does the rest. Call it after ``state.stopping`` was set.
    """
    refused = [_refuse_new(listener) for listener in sockets]
    if any(refused):
        await asyncio.sleep(_BACKLOG_SECONDS)  # who has knocked already is let in
    for site in list(runner.sites):
        await site.stop()
    server = runner.server
    with suppress(TimeoutError):
        async with deadline(min(_SILENCE_SECONDS, grace)):
            while server is not None and server.connections:  # noqa: ASYNC110 - aiohttp tells nobody
                await asyncio.sleep(_POLL_SECONDS)


def _refuse_new(listener: socket.socket) -> bool:
    """Have the kernel ignore requests for new connections; False where it can't.

    Closing a listening socket resets the connections that wait to be accepted, and accepting them
    all first is a race that this ends: who comes now tries again a second later, and is refused.
    """
    if sys.platform != "linux":
        return False
    program = b"".join(struct.pack("HBBI", *line) for line in _REFUSE_SYN)
    buffer = ctypes.create_string_buffer(program)
    option = struct.pack("HP", len(_REFUSE_SYN), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError:
        return False
    return True
