"""The series that the database's ledgers keep: totals, and what the open facts add to them.

The totals change only at a fold, so a process keeps them, and at a scrape reads just the rows that
were changed since. The generation that says so is read in the scrape's own snapshot, and counts
only for the very table it was read from: a standby that took over, or a backup that was put back,
may say less than what was read before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from collectors import replication
from collectors.base import Family
from collectors.series import Adding, Families, Merging, Replacing

if TYPE_CHECKING:
    from collectors.reader import Reader, Row

__all__ = ["LEDGERS", "Ledger", "LedgerState", "Totals"]

LEDGERS: Final = ("task", "chain", "webhook")

_STATE: Final = """
SELECT generation, folded_at, open_task_events, open_chain_events, open_webhook_events,
       pg_is_in_recovery() AS replica,
       ARRAY(SELECT g FROM metrics.label_guards AS g ORDER BY g.label) AS guards,
       pg_postmaster_start_time() AS server,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AS database,
       pg_relation_filenode('metrics.totals') AS file
  FROM metrics.ledger_state
"""
_BUCKETS: Final = """
SELECT family, label_1, label_2, bucket, n, sum_us, date_part('epoch', first_at){}
  FROM metrics.{}
"""
_EXEMPLARS: Final = """,
       exemplar_id::text, exemplar_us / 1e6::double precision, date_part('epoch', exemplar_at)"""
_TOTALS: Final = _BUCKETS.format(_EXEMPLARS, "totals") + " WHERE generation > $1"
_TAILS: Final = {ledger: _BUCKETS.format("", f"{ledger}_tail") for ledger in LEDGERS}
_FEW: Final = 2000

Identity = tuple[object, ...]
"""Tells one table of totals from another."""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a snapshot says of the ledgers as a whole."""

    generation: int
    folded_at: datetime
    open: Mapping[str, int]
    """Facts that are not folded yet, by ledger."""
    identity: Identity
    replication_lag: float | None = 0.0
    """Seconds, see `collectors.replication.lag`; 0 on a primary."""
    merged: tuple[tuple[str, int], ...] = ()
    """How many values of each open label count under ``other``."""

    @property
    def open_events(self) -> int:
        """Facts of all ledgers that are not folded yet."""
        return sum(self.open.values())


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of one generation. Never changed, since scrapes may still be rendering them."""

    identity: Identity = ()
    generation: int = -1
    families: Families = field(default_factory=Families)


class Ledger:
    """The totals that this process has read."""

    def __init__(self, families: Iterable[Family]) -> None:
        """Read these families; nothing has been read yet."""
        self._families = {family.name: family for family in families}
        self._kept = Totals()

    async def state(self, reader: Reader) -> LedgerState:
        """Read the generation and the number of open facts.

        Raises:
            LookupError: the row is gone.
        """
        row = await reader.fetchrow(_STATE)
        if row is None:
            raise LookupError("metrics.fold_state has lost its row; restore it from a backup")
        return LedgerState(
            row["generation"],
            row["folded_at"],
            {ledger: row[f"open_{ledger}_events"] for ledger in LEDGERS},
            (row["server"], row["database"], row["file"]),
            await replication.lag(reader, row["folded_at"]) if row["replica"] else 0.0,
            tuple((guard["label"], guard["merged"]) for guard in row["guards"]),
        )

    async def totals(self, reader: Reader, state: LedgerState) -> Totals:
        """The totals as of ``state``, and keep them for the next scrape."""
        base = self._kept
        if base.identity != state.identity or base.generation > state.generation:
            base = Totals(state.identity)
        if base.generation == state.generation:
            return base
        rows = reader.portions(_TOTALS, base.generation)
        families = await _merged(Replacing(self._families, base.families), rows)
        self._kept = Totals(state.identity, state.generation, families)
        return self._kept

    async def read(self, reader: Reader, ledger: str) -> Families:
        """Totals and open facts of one ledger together, by family."""
        totals = await reader.totals()
        facts = (await reader.ledger_state()).open[ledger]
        if not facts:
            return totals.families
        rows = reader.portions(_TAILS[ledger], few=facts <= _FEW)
        return await _merged(Adding(self._families, totals.families), rows)


async def _merged(merging: Merging, rows: AsyncIterator[Sequence[Row]]) -> Families:
    async for portion in rows:
        merging.put(portion)
    return merging.families()
