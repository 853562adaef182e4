"""Chains: steps that run one after the other."""

from typing import Final
from uuid import UUID

from aiohttp import web

from ains.db import chains
from ains.domain.chains import Chain, ChainCancelled, ChainItem, ChainQuery, SubmitChain
from ains.domain.ids import uuid7
from ains.errors import BusinessRule
from ains.http.handler import Routes
from ains.http.keys import DB, WAKE

routes: Final = Routes(
    tag="Chains",
    description="Steps that run one after the other, each as a task of its own. A step that fails "
    "for good fails the chain, one that is cancelled cancels it.",
)


@routes.post("/ains/task-chains")
async def submit(request: web.Request, body: SubmitChain) -> ChainItem:
    """Submit a chain.

    The task of its first step is queued at once, that of each other step when the one before has
    completed.
    """
    chain = await chains.submit(request.app[DB], uuid7(), body)
    request.app[WAKE]()
    return chain


@routes.get("/ains/task-chains")
async def page(request: web.Request, query: ChainQuery) -> list[ChainItem]:
    """List chains, newest first."""
    return await chains.page(request.app[DB], query)


@routes.get("/ains/task-chains/{chain_id}")
async def show(request: web.Request, chain_id: UUID) -> Chain:
    """Show a chain with its steps and their results."""
    return await chains.get(request.app[DB], chain_id)


@routes.post("/ains/task-chains/{chain_id}/cancel", errors=(BusinessRule,))
async def cancel(request: web.Request, chain_id: UUID) -> ChainCancelled:
    """Cancel a chain that has not ended, with its task."""
    return await chains.cancel(request.app[DB], chain_id)
