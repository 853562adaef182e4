"""Ports, and waiting for whoever should answer there."""

import asyncio
import socket
import subprocess
from time import monotonic

import aiohttp

_SECONDS = 30.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def until_ready(url: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until ``url`` answers with 200."""
    deadline = monotonic() + _SECONDS
    async with aiohttp.ClientSession() as http:
        while monotonic() < deadline:
            assert process is None or process.poll() is None, "the process has ended"
            try:
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.02)
    raise TimeoutError(f"{url} is not ready")
