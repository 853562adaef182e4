"""The last words of a server, for the error that tells of its end."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ains.db.embedded.layout import Layout

__all__ = ["ServerLog"]

_LINES = 12
_LAST_WORDS_SECONDS = 1.0
_POLL_SECONDS = 0.02


class ServerLog:
    """What the server of ``layout`` says from now on: to its startup log, then to its own."""

    def __init__(self, layout: Layout) -> None:
        self._startup = layout.startup_log
        self._directory = layout.pgdata / "log"
        # A start within the second of another appends to the other's file.
        self._known: dict[Path, int] = {}
        for path in self._directory.glob("*.log"):
            with suppress(FileNotFoundError):  # the keeper removes old ones
                self._known[path] = path.stat().st_size

    def tail(self, lines: int = _LINES) -> str:
        """The last lines since this object was made; "" without any."""
        said = ""
        with suppress(OSError):
            said = self._startup.read_text(errors="replace")
        for path in sorted(self._directory.glob("*.log"))[-2:]:
            with suppress(OSError), path.open("rb") as file:
                file.seek(self._known.get(path, 0))
                said += file.read().decode(errors="replace")
        return "\n".join(said.splitlines()[-lines:])

    def last_words(self) -> str:
        """What the server said before it gave up.

        A process of its own writes its log, and may do so a moment after the server has ended.
        """
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while True:
            said = self.tail()
            if "FATAL:" in said or "PANIC:" in said or time.monotonic() > deadline:
                return said
            time.sleep(_POLL_SECONDS)
