"""Is it alive, is it ready, and how is it doing."""

from __future__ import annotations

from asyncio import timeout as deadline
from typing import Final

from aiohttp import web

from ains import __version__
from ains.db import health, upkeep
from ains.db.migrations import head, revisions
from ains.domain.service import NAME, Detail, Health, Overview, Status
from ains.errors import AinsError, DatabaseUnavailable, ShuttingDown
from ains.http.handler import Routes
from ains.http.keys import DB, STATE
from ains.http.render import JSON, dump_json, json_response

__all__ = ["routes"]

# Below the second after which Kubernetes gives a probe up by default.
_PROBE_SECONDS: Final = 0.9
_DETAIL_SECONDS: Final = 3.0
_UNAVAILABLE: Final = 503

_HEALTHY: Final[Health] = {"status": "healthy", "service": NAME, "version": __version__}
_HEALTH: Final = dump_json(_HEALTHY)

routes: Final = Routes("Health", "For probes, load balancers and people.")


@routes.get("/health", returns=Health)
async def show(_request: web.Request) -> web.Response:
    """Say that the process answers.

    Looks at nothing else, so it is fast and stays true while the database is away.
    """
    return web.Response(body=_HEALTH, content_type=JSON)


@routes.get("/health/live")
async def live(_request: web.Request) -> Status:
    """Liveness probe: when this fails, restart the process."""
    return {"status": "alive"}


@routes.get("/health/startup", errors=(DatabaseUnavailable,))
async def startup(request: web.Request) -> Status:
    """Startup probe: whether the database was reached and migrated since the process began."""
    state = request.app[STATE]
    if not state.started:
        raise DatabaseUnavailable(state.waiting_for)
    return {"status": "started"}


@routes.get("/health/ready", errors=(DatabaseUnavailable, ShuttingDown))
async def ready(request: web.Request) -> Status:
    """Readiness probe: whether requests can be served at this moment.

    Asks the database, once and briefly.
    """
    state = request.app[STATE]
    if state.stopping:
        raise ShuttingDown
    if not state.started:
        raise DatabaseUnavailable(state.waiting_for)
    try:
        async with deadline(_PROBE_SECONDS):
            version = await upkeep.schema_version(request.app[DB])
    except TimeoutError:
        raise DatabaseUnavailable("The database did not answer in time.") from None
    # A later version is no reason: that is how replicas are upgraded one after the other.
    if version is None or (version in revisions() and version != head()):
        raise DatabaseUnavailable("The database lacks migrations; run `ains migrate`.")
    return {"status": "ready"}


@routes.get("/health/detail", returns=Detail, also={_UNAVAILABLE: "The database is away."})
async def detail(request: web.Request) -> web.Response:
    """Show the database pool, agents, tasks, dispatcher, webhook backlog and ledger.

    The status is 503, with the same body, while the database is away.
    """
    overview: Overview | None = None
    error: str | None = None
    try:
        async with deadline(_DETAIL_SECONDS):
            overview = await health.overview(request.app[DB])
    except TimeoutError:
        error = "The database did not answer in time."
    except AinsError as failure:
        error = failure.detail
    answer = _describe(request.app, overview, error)
    return json_response(answer, 200 if overview else _UNAVAILABLE)


def _describe(app: web.Application, overview: Overview | None, error: str | None) -> Detail:
    state, database = app[STATE], app[DB]
    workers = state.workers()
    answer: Detail = {
        "status": "healthy",
        "service": NAME,
        "version": __version__,
        "database": {
            "reachable": overview is not None,
            "error": error,
            "connections_active": database.active,
            "connections_idle": database.idle,
            "connections_max": database.max_size,
        },
        "dispatcher": {"notifications": state.notifications(), "workers": workers},
        "agents": overview["agents"] if overview else None,
        "tasks": overview["tasks"] if overview else None,
        "webhooks": overview["webhooks"] if overview else None,
        "ledger": overview["ledger"] if overview else None,
    }
    if overview is None:
        answer["status"] = "unavailable"
    elif state.stopping:
        answer["status"] = "stopping"
    elif not state.started:
        answer["status"] = "starting"
    elif any(worker["failures"] for worker in workers):
        answer["status"] = "degraded"
    return answer
