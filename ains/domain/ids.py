"""Identifiers that grow with time: UUIDs of version 7.

https://www.rfc-editor.org/rfc/rfc9562#section-5.7: 48 bits of Unix time in milliseconds, then what
makes it unique. Rows with such keys are appended to an index instead of scattered over it.
"""

import time
from collections.abc import Callable
from secrets import randbits
from threading import Lock
from typing import Final
from uuid import UUID

__all__ = ["Uuid7", "uuid7"]

_MILLISECOND: Final = 1_000_000  # nanoseconds
_COUNTER_BITS: Final = 42
_TAIL_BITS: Final = 32
_MAX_TIME: Final = (1 << 48) - 1
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0b10 << 62


class Uuid7:
    """Makes UUIDs of version 7, each greater than the one before.

    What follows the time is a counter of 42 bits and 32 random bits (RFC 9562, section 6.2, method
    1). The counter starts each millisecond at a random value, its highest bit 0, so that there is
    room to count. A clock that is set back is ignored until it has caught up.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.time_ns,
        random_bits: Callable[[int], int] = randbits,
    ) -> None:
        """``clock`` returns nanoseconds since 1970, ``random_bits(n)`` an integer of n bits."""
        self._clock = clock
        self._random_bits = random_bits
        self._lock = Lock()
        self._time = -1
        self._counter = 0

    def __call__(self) -> UUID:
        """Make one; may be called from any thread."""
        now = self._clock() // _MILLISECOND
        random = self._random_bits(_COUNTER_BITS - 1 + _TAIL_BITS)
        with self._lock:
            if now > self._time:
                self._time = now
                self._counter = random >> _TAIL_BITS
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:
                    self._time += 1
                    self._counter = random >> _TAIL_BITS
            milliseconds, counter = self._time, self._counter
        return UUID(
            int=(milliseconds & _MAX_TIME) << 80
            | _VERSION_AND_VARIANT
            | (counter >> 30) << 64
            | (counter & (1 << 30) - 1) << _TAIL_BITS
            | random & (1 << _TAIL_BITS) - 1
        )


uuid7: Final = Uuid7()
"""The process's own source; ``uuid7()`` makes an id."""
