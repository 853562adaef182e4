"""How tasks find their agents."""

from datetime import timedelta
from typing import Final

from aiohttp import web

from ains.db import dispatch
from ains.domain.task_views import RoutingAnswer, Strategies
from ains.domain.tasks import DEFAULT_STRATEGY, STRATEGY_DESCRIPTIONS, RoutingQuestion
from ains.errors import quote
from ains.http.handler import Routes
from ains.http.keys import DB, SETTINGS

routes: Final = Routes(tag="Routing")


@routes.get("/ains/routing/strategies")
async def strategies(_: web.Request) -> Strategies:
    """List the routing strategies.

    Up to 127 capable agents, each chooses the best of all; of more, the best of a random sample,
    so that ten thousand cost little more than ten.
    """
    return {
        "strategies": [
            {"name": name, "description": description}
            for name, description in STRATEGY_DESCRIPTIONS.items()
        ],
        "default": DEFAULT_STRATEGY,
    }


@routes.post("/ains/routing/test")
async def preview(request: web.Request, body: RoutingQuestion) -> RoutingAnswer:
    """Show which agent would get a task now, without giving it one.

    With `trust_weighted` the choice is random, and so is whom any strategy chooses among when many
    agents are capable: ask twice and get two answers.
    """
    ttl = timedelta(seconds=request.app[SETTINGS].agent_ttl)
    agent = await dispatch.preview(
        request.app[DB], body.capability_required, body.routing_strategy, ttl
    )
    return {
        "selected_agent": agent,
        "message": None
        if agent
        else f"No agent that offers {quote(body.capability_required)} is available.",
        "strategy_used": body.routing_strategy,
    }
