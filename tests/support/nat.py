"""A way to a server on which connections can get lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Nat:
    """Passes connections on to a server, and can forget them without a word to anybody."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._forgotten = asyncio.Event()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forgotten = self._forgotten
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not forgotten.is_set():
                    writer.write(data)
        writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.hostname, self._target.port)
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    def forget(self) -> None:
        """Forget all connections there are; new ones pass."""
        self._forgotten.set()
        self._forgotten = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            login = self._target.netloc.rpartition("@")[0]
            yield urlunsplit(self._target._replace(netloc=f"{login}@127.0.0.1:{port}"))
