"""Dependencies, chains and webhooks, with their ledgers and families.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from ains.db.migrations import run_scripts

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything, in the order of the scripts' names."""
    run_scripts("0002")


def downgrade() -> None:
    """Refuse: the ledgers and their counters can't be brought back once dropped."""
    raise NotImplementedError("restore a backup instead")
