"""The processes that write, one in each slot; any may be killed and replaced."""

import asyncio
import random
import signal
import subprocess
import sys
from tempfile import TemporaryFile

from tests.support.serving import CHECKOUT, MORTAL, environment

_MAIN = MORTAL + "from tests.torture.writers import main; main()"


class Crew:
    """Writers of one seed."""

    def __init__(self, url: str, seed: int, *, connections: int = 3, rows: int = 100) -> None:
        self._url = url
        self._seed = seed
        self._options = (f"--connections={connections}", f"--rows={rows}")
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0
        self._output = TemporaryFile()  # noqa: SIM115 - close() does

    def start(self, slot: int) -> None:
        """Begin to write in this slot."""
        self._started += 1
        self._processes[slot] = subprocess.Popen(
            [
                *(sys.executable, "-c", _MAIN, self._url, *self._options),
                *(f"--slot={slot}", f"--seed={self._seed} {self._started}"),
            ],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    async def replace(self, rng: random.Random) -> None:
        """Kill one with -9, in whatever it is doing, and start another."""
        slot = rng.choice([*self._processes])
        self._processes[slot].kill()
        await asyncio.to_thread(self._processes[slot].wait)
        self.start(slot)

    def assert_writing(self) -> None:
        """Nothing has happened to them that was not to be expected."""
        for process in self._processes.values():
            assert process.poll() is None, self._said

    async def stop(self) -> None:
        """Have them all leave off."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            await asyncio.to_thread(process.wait, 60)
        # The signal itself ends one that has hardly begun.
        for process in self._processes.values():
            assert process.returncode in (0, -signal.SIGTERM), self._said

    def close(self) -> None:
        """Kill who is left."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._output.close()

    @property
    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]
