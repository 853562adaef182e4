"""``ains serve`` as users run it: a process of its own on a real port."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic

import aiohttp

_CHECKOUT = Path(__file__).parents[2]
_SECONDS = 30.0
_MAIN = "from ains.cli import main; main()"


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


@asynccontextmanager
async def ains_serve(*options: str, **settings: str) -> AsyncIterator[str]:
    """Run ``ains serve <options>`` and yield its URL; ``settings`` are variables without AINS_.

    What it printed is a note of whatever goes wrong inside.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if name[:5] != "AINS_"}
    environment |= {f"AINS_{name.upper()}": value for name, value in settings.items()}
    with TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "serve", "--port", str(port), *options],
            cwd=_CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            await until_ready(f"{url}/health/ready", process)
            yield url
        except BaseException as error:
            output.seek(0)
            error.add_note(output.read().decode(errors="replace")[-4000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, _SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
