"""Up to a thousand tasks in one request."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from ains.db import batch
from ains.domain.ids import uuid7
from ains.domain.task_views import BatchCancelled, BatchCreated, BatchStatus
from ains.domain.tasks import (
    MAX_BATCH,
    BatchCancelQuery,
    BatchStatusQuery,
    CancelBatch,
    CreateBatch,
)
from ains.errors import BusinessRule, InvalidInput, NotFound
from ains.http.handler import Routes
from ains.http.keys import DB, WAKE
from ains.http.parse import parse_uuid_or_404

routes: Final = Routes(tag="Batches")


@routes.post("/aitp/tasks/batch", errors=(BusinessRule,))
async def create(request: web.Request, body: CreateBatch) -> BatchCreated:
    """Queue 1 to 1000 tasks of one client at once, for the dispatcher to route.

    A wrong item is reported in ``errors`` by its index and does not keep the others out.
    """
    if not body.tasks:
        raise BusinessRule("A batch needs at least one task.")
    good, bad = body.sorted_out(datetime.now(UTC))
    ids = [uuid7() for _ in good]
    if good:
        await batch.create(request.app[DB], body.client_id, ids, good)
        request.app[WAKE]()
    return {
        "batch_id": str(uuid7()),
        "success": bool(good),
        "created": len(good),
        "failed": len(bad),
        "task_ids": ids,
        "errors": [{"index": index, "error": why} for index, why in bad],
    }


@routes.get("/aitp/tasks/batch/status", errors=(BusinessRule,))
async def status(request: web.Request, query: BatchStatusQuery) -> BatchStatus:
    """Show how up to 1000 tasks are doing; those that do not exist are left out."""
    ids = _ids(query.task_ids.split(","))
    return await batch.status(request.app[DB], [i for i in ids if isinstance(i, UUID)])


@routes.post("/aitp/tasks/batch/cancel", errors=(BusinessRule,))
async def cancel(
    request: web.Request, query: BatchCancelQuery, body: CancelBatch | None
) -> BatchCancelled:
    """Cancel those of up to 1000 tasks that are live and the client's.

    ``task_ids`` (comma-separated in the query string, a list in the body), ``client_id`` and
    ``reason`` may stand in either place.
    """
    given = body or CancelBatch()
    client_id = given.client_id if query.client_id is None else query.client_id
    if client_id is None:
        raise InvalidInput.at(["query", "client_id"], "Field required", "missing")
    texts = given.task_ids if query.task_ids is None else query.task_ids.split(",")
    reason = given.reason if query.reason is None else query.reason
    return await batch.cancel(request.app[DB], _ids(texts or ()), client_id, reason)


def _ids(texts: Iterable[str]) -> list[UUID | str]:
    """Each id once; a text that can't be the id of a task stays a text."""
    ids: dict[UUID | str, None] = {}
    for text in texts:
        name = text.strip()
        if name:
            ids[_uuid_or_text(name)] = None
    if not ids:
        raise BusinessRule("Name at least one task in task_ids.")
    if len(ids) > MAX_BATCH:
        raise BusinessRule(f"At most {MAX_BATCH} tasks at once, these are {len(ids)}.")
    return list(ids)


def _uuid_or_text(name: str) -> UUID | str:
    try:
        return parse_uuid_or_404(name)
    except NotFound:
        return name
