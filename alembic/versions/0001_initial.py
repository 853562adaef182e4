"""Agents, tasks, dependencies, chains, webhooks, their ledgers, routing, and the schema metrics.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from ains.db.migrations import run_scripts

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything, in the order of the scripts' names."""
    run_scripts("0001")


def downgrade() -> None:
    """Refuse: the ledger and its counters can't be brought back once dropped."""
    raise NotImplementedError("0001 is the beginning; drop the database instead")
