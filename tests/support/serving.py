"""`ains serve` as a process that tests watch, stop and kill."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import IO, Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.live import free_port
from tests.support.scraped import Values, values

CHECKOUT = Path(__file__).parents[2]
AINS = [sys.executable, "-c", "from ains.cli import main; main()"]
# prctl(PR_SET_PDEATHSIG, SIGKILL): tests that are killed leave no server behind.
MORTAL = "import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n" * (sys.platform == "linux")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with ``settings`` for all of AINS's; named without AINS_."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AINS_")}
    return kept | {f"AINS_{name.upper()}": value for name, value in settings.items()}


def ains(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `ains <arguments>` to its end."""
    return subprocess.run(
        [*AINS, *arguments],
        cwd=CHECKOUT,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@dataclass
class Server:
    """One running `ains serve`."""

    process: "subprocess.Popen[bytes]"
    url: str
    http: aiohttp.ClientSession
    _output: IO[bytes]

    @property
    def output(self) -> str:
        """What it printed and logged so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    async def get(self, path: str, **options: Any) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of the answer to one request; status 0 when nobody answers."""
        try:
            async with self.http.get(self.url + path, **options) as response:
                return response.status, dict(response.headers), await response.text()
        except aiohttp.ClientConnectionError:
            return 0, {}, ""

    async def until(self, path: str, status: int, seconds: float = 30) -> None:
        """Wait until ``path`` answers with ``status``."""
        deadline = monotonic() + seconds
        got = -1
        while monotonic() < deadline:
            assert self.process.poll() is None or status == 0, self.output
            got = (await self.get(path))[0]
            if got == status:
                return
            await asyncio.sleep(0.02)
        raise TimeoutError(f"{path} answers {got}, not {status}\n{self.output[-4000:]}")

    async def scrape(self) -> Values:
        """The samples of /metrics, which must have reached the database."""
        status, _, text = await self.get("/metrics")
        found = values(text_string_to_metric_families(text))
        assert status == 200
        assert found["ains_up", ()] == 1
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float = 30) -> int:
        """Wait for its end; returns the exit code."""
        return await asyncio.to_thread(self.process.wait, seconds)

    async def stop(self) -> int:
        """End it politely; returns the exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it with -9."""
        self.send(signal.SIGKILL)
        await self.ended()


@asynccontextmanager
async def serving(
    *options: str, port: int | None = None, ready: bool = True, **settings: str
) -> AsyncIterator[Server]:
    """Run `ains serve <options>`; ``settings`` are variables without AINS_.

    What it printed is a note of whatever goes wrong inside.
    """
    port = port or free_port()
    command: Sequence[str] = [*AINS[:2], MORTAL + AINS[2], "serve", "--port", str(port), *options]
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            server = Server(process, f"http://127.0.0.1:{port}", http, output)
            try:
                if ready:
                    await server.until("/health/ready", 200)
                yield server
            except BaseException as error:
                error.add_note(server.output[-4000:])
                raise
            finally:
                if process.poll() is None:
                    process.terminate()
                    try:
                        await server.ended(20)
                    except subprocess.TimeoutExpired:
                        await server.kill()
