"""Trust: who is trusted how far, why, and changes by hand."""

from typing import Final

from aiohttp import web

from ains.db import trust
from ains.domain.trust import (
    AdjustTrust,
    HistoryQuery,
    Leaderboard,
    LeaderboardQuery,
    TrustAdjusted,
    TrustRecord,
    TrustStanding,
)
from ains.http.handler import Routes
from ains.http.keys import DB

routes: Final = Routes(tag="Agents")


@routes.get("/ains/agents/leaderboard")
async def leaderboard(request: web.Request, query: LeaderboardQuery) -> Leaderboard:
    """Rank the most trusted agents."""
    return await trust.leaderboard(request.app[DB], query.limit, query.min_tasks)


@routes.get("/ains/agents/{agent_id}/trust")
async def standing(request: web.Request, agent_id: str) -> TrustStanding:
    """Show how far an agent is trusted.

    The level is high from 0.8 and medium from 0.5; `success_rate` is from 0 to 1.
    """
    return await trust.standing(request.app[DB], agent_id)


@routes.get("/ains/agents/{agent_id}/trust/history")
async def history(request: web.Request, agent_id: str, query: HistoryQuery) -> list[TrustRecord]:
    """List the latest changes of an agent's trust, newest first."""
    return await trust.history(request.app[DB], agent_id, query.limit)


@routes.post("/ains/agents/{agent_id}/trust/adjust")
async def adjust(request: web.Request, agent_id: str, body: AdjustTrust) -> TrustAdjusted:
    """Change an agent's trust by hand.

    The sum is kept between 0 and 1.
    """
    return await trust.adjust(request.app[DB], agent_id, body.trust_delta, body.reason)
