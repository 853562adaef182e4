"""Puts the migrations into the wheel.

They live at the top of the tree, where alembic and its users look for them, and are shipped inside
the package as ``ains/_alembic/``. An editable install reads the tree itself, so nothing is copied.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class MigrationsBuildHook(BuildHookInterface[Any]):
    """Maps ``alembic/`` and ``alembic.ini`` to ``ains/_alembic/`` in a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Extend the wheel's forced inclusions; ``version`` is ``"standard"`` or ``"editable"``."""
        if version == "editable":
            return
        root = Path(self.root)
        build_data["force_include"] |= {
            str(root / "alembic.ini"): "ains/_alembic/alembic.ini",
            str(root / "alembic"): "ains/_alembic/alembic",
        }
