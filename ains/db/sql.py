"""Named SQL: every statement of the service stands in a ``.sql`` file under ``queries/``.

A file holds blocks::

    -- name: cancel
    -- Ends a live task on behalf of its client.
    UPDATE tasks SET …

Verb and main table of a statement are what ``ains_db_queries_total`` is counted by.
For a statement that begins with WITH, the verb is that of its data-modifying part, else SELECT; the
line ``-- counts as: UPDATE tasks`` says otherwise.

``-- together, by $2`` marks a short write that `ains.db.lane` may send with others of its kind, in
the order of their second arguments: that in which the locks they wait for are taken everywhere. Its
first argument tells it apart from the others, and is the first column of its row, if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, cast

Verb = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "OTHER"]

_BLOCK = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)
_COUNTS_AS = re.compile(
    r"^-- counts as: *(SELECT|INSERT|UPDATE|DELETE|OTHER) +(\w+) *$", re.MULTILINE
)
_WRITES = re.compile(r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:\w+\.)?(\w+)", re.IGNORECASE)
_READS = re.compile(r"\bFROM\s+(?:\w+\.)?(\w+)", re.IGNORECASE)
_TOGETHER = re.compile(r"^-- together, by \$(\d+) *$", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL statement with the labels it is counted by.

    ``together`` is the parameter, from 1 on, in whose order it may be sent with others of its kind.
    """

    name: str
    text: str
    verb: Verb
    table: str
    together: int | None = None

    @classmethod
    def of(cls, name: str, block: str) -> Query:
        """Read verb and main table off a statement; ``-- counts as:`` wins."""
        text = _COMMENT.sub("", block).strip()
        verb, table = cls._labels(text, block)
        together = _TOGETHER.search(block)
        return cls(name, text, verb, table, int(together[1]) if together else None)

    @staticmethod
    def _labels(text: str, block: str) -> tuple[Verb, str]:
        if said := _COUNTS_AS.search(block):
            return cast("Verb", said[1]), said[2]
        locks = re.sub(r"\bFOR\s+(NO\s+KEY\s+)?UPDATE\b", "", text, flags=re.IGNORECASE)
        locks = re.sub(r"\bDO\s+UPDATE\b", "", locks, flags=re.IGNORECASE)
        if wrote := _WRITES.search(locks):
            return cast("Verb", wrote[1].split()[0].upper()), wrote[2].lower()
        if read := _READS.search(text):
            return "SELECT", read[1].lower()
        return "OTHER", "none"


def parse(source: str) -> Mapping[str, Query]:
    """Split the text of a ``.sql`` file into its queries.

    Raises:
        ValueError: two blocks have one name, or text stands before the first block.
    """
    head, *parts = _BLOCK.split(source)
    if _COMMENT.sub("", head).strip():
        raise ValueError("SQL before the first '-- name:' line")
    found: dict[str, Query] = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        if name in found:
            raise ValueError(f"two queries are named {name!r}")
        found[name] = Query.of(name, block)
    return MappingProxyType(found)


@cache
def load(noun: str) -> Mapping[str, Query]:
    """Queries of ``queries/<noun>.sql`` by name."""
    return parse(files("ains.db").joinpath("queries", f"{noun}.sql").read_text("utf-8"))
