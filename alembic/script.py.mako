"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

from ains.db.migrations import run_scripts

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    run_scripts(${repr(up_revision)})


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
