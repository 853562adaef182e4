"""HTTP by hand, for what no client library would send."""

import asyncio
import re
from contextlib import suppress

_LENGTH = re.compile(rb"Content-Length: (\d+)\r\n", re.IGNORECASE)


async def exchange(port: int, *parts: bytes) -> bytes:
    """Send ``parts``, one write each; return the answer, or what came until the server closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionResetError):  # it may have seen enough
            for part in parts:
                writer.write(part)
                await writer.drain()
        async with asyncio.timeout(10):
            return await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while piece := await _piece(reader):
        answer += piece
        head, separator, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if separator and length and len(body) >= int(length[1]):
            break
    return answer


async def _piece(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:  # the server left without reading all that we sent
        return b""


def status_of(answer: bytes) -> int:
    """Return the status code of ``answer``; 0 when the server said nothing."""
    return int(answer.split(b" ", 2)[1]) if answer else 0
