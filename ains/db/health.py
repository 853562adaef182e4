"""How agents, tasks and ledger are doing, for /health/detail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from ains.db.sql import load

if TYPE_CHECKING:
    from ains.db.statements import Statements
    from ains.domain.service import AgentCounts, Overview

__all__ = ["overview"]

_QUERIES = load("health")


async def overview(statements: Statements) -> Overview:
    """Read everything in one statement, which costs what a scrape does.

    Raises:
        DatabaseUnavailable: it can't be reached, or was never migrated.
    """
    row = await statements.fetchrow(_QUERIES["overview"])
    if row is None:
        raise LookupError("metrics.fold_state has lost its row")
    by_status: dict[str, int] = json.loads(row["agents"])
    return {
        "agents": cast("AgentCounts", by_status | {"active": row["agents_active"]}),
        "tasks": {
            "pending": row["pending"],
            "blocked": row["blocked"],
            "assigned": row["assigned"],
            "active": row["active"],
            "completed_total": row["completed"],
            "failed_total": row["failed"],
            "cancelled_total": row["cancelled"],
            "oldest_pending_seconds": row["oldest_pending_seconds"],
        },
        "webhooks": {"deliveries_pending": row["deliveries_pending"]},
        "ledger": {
            "open_events": row["open_events"],
            "folded_seconds_ago": row["folded_seconds_ago"],
        },
    }
