"""What the handlers find on the application: ``request.app[DB]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp.web import AppKey

from ains.db.pool import Database
from ains.domain.service import ServiceState
from ains.settings import Settings

__all__ = ["DB", "SETTINGS", "STATE", "WAKE"]

DB: Final = AppKey("DB", Database)
"""The database."""

SETTINGS: Final = AppKey("SETTINGS", Settings)
"""The configuration."""

WAKE: Final[AppKey[Callable[[], None]]] = AppKey("WAKE")
"""Tells the dispatcher, here or in another process, that there may be work to hand out.

Called after the commit; never waits, never fails.
"""

STATE: Final = AppKey("STATE", ServiceState)
"""Where the process stands between its start and its end."""
