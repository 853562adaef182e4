"""From a process that listens to one that serves: waits for the database and gets it ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ains.db import errors, migrations, upkeep
from ains.errors import AinsError, SettingsError
from ains.logs import get_logger
from ains.workers.backoff import Backoff

if TYPE_CHECKING:
    from ains.db.pool import Database
    from ains.domain.service import ServiceState

__all__ = ["Startup", "explain", "known_error"]

_REPEAT_SECONDS: Final = 30.0
_LOG_SAYS: Final = "The database can't be used yet; the server's log says why."

log = get_logger(__name__)


class Startup:
    """Migrates the database, however long it takes to appear, and then starts the workers."""

    def __init__(
        self,
        dsn: str,
        database: Database,
        settings: upkeep.MetricsSettings,
        state: ServiceState,
        start_workers: Callable[[], None],
    ) -> None:
        """``state`` is told how it goes."""
        self._dsn = dsn
        self._database = database
        self._settings = settings
        self._state = state
        self._start_workers = start_workers
        self.first_try = asyncio.Event()
        """Set when the first attempt is over, successful or not."""

    async def run(self) -> None:
        """Return when everything runs.

        Raises:
            SettingsError: waiting won't help: the database belongs to a newer AINS, for example.
        """
        backoff = Backoff()
        said_at = float("-inf")
        now = asyncio.get_running_loop().time
        while True:
            try:
                await self._prepare()
                break
            except SettingsError as error:
                self._state.waiting_for = error.detail
                raise
            except Exception as error:  # noqa: BLE001 - somebody may put it right meanwhile
                known = known_error(error)
                self._state.waiting_for = known.detail if known else _LOG_SAYS
                if now() - said_at > _REPEAT_SECONDS:
                    said_at = now()
                    why = {"reason": explain(error)} if known else {"exc_info": error}
                    log.warning("waiting for the database", **why)
            finally:
                self.first_try.set()
            await asyncio.sleep(backoff.next())
        self._start_workers()
        self._state.waiting_for = None
        self._state.started = True
        self._state.on_started()

    async def _prepare(self) -> None:
        before = await migrations.upgrade(self._dsn)
        if before != migrations.head():
            log.info("database migrated", before=before, now=migrations.head())
        await upkeep.say_settings(self._database, self._settings)
        await self._database.warm()


def known_error(error: BaseException) -> AinsError | None:
    """The error of ours that says what happened; None for what nobody foresaw."""
    return error if isinstance(error, AinsError) else errors.translate(_cause(error))


def explain(error: BaseException) -> str:
    """Why the database can't be used, with PostgreSQL's or the network's own words."""
    known, said = known_error(error), str(_cause(error)).strip().rstrip(".")
    if known is None:
        return f"{type(error).__name__}: {said}"
    return f"{known.detail} ({said})" if said and known is not error else known.detail


def _cause(error: BaseException) -> BaseException:
    """What lies under SQLAlchemy's wrapping, which alembic's errors have."""
    wrapped: BaseException | None = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped
