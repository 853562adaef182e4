"""How long to wait before the next try."""

from __future__ import annotations

from random import uniform

__all__ = ["Backoff"]


class Backoff:
    """Delays that double up to a limit, each ±25 %, so that replicas don't come back in step."""

    def __init__(self, first: float = 0.1, longest: float = 2.0) -> None:
        """Both are in seconds."""
        self._first = first
        self._longest = longest
        self._delay = first

    def next(self) -> float:
        """The delay before the next try, in seconds."""
        delay, self._delay = self._delay, min(2 * self._delay, self._longest)
        return uniform(0.75, 1.25) * delay  # noqa: S311 - spreads load, keeps no secret

    def reset(self) -> None:
        """It worked: begin with the shortest delay again."""
        self._delay = self._first
