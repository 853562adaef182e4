"""What the service sends, as PostgreSQL understands it."""

from importlib.resources import files

import asyncpg
import pytest

from ains.db.sql import Query, load

NOUNS = sorted(
    file.name.removesuffix(".sql") for file in files("ains.db").joinpath("queries").iterdir()
)
QUERIES = [
    pytest.param(query, id=f"{noun}.{query.name}")
    for noun in NOUNS
    for query in load(noun).values()
]
_PARAMETERS = """
SELECT p.place, p.type::text
  FROM pg_prepared_statements AS s
 CROSS JOIN unnest(s.parameter_types) WITH ORDINALITY AS p (type, place)
  JOIN pg_type AS t ON t.oid = p.type
  LEFT JOIN pg_type AS e ON e.oid = t.typelem AND t.typcategory = 'A'
 WHERE s.name = 'looked_at' AND 'd' IN (t.typtype, e.typtype)
"""


@pytest.mark.parametrize("query", QUERIES)
async def test_no_parameter_has_a_type_that_every_connection_looks_up(
    db: asyncpg.Connection, query: Query
) -> None:
    """Of a domain, asyncpg asks the catalog at length, once for each new connection."""
    try:
        await db.execute(f"PREPARE looked_at AS {query.text}")
    except asyncpg.PostgresSyntaxError:
        assert query.verb == "OTHER"  # VACUUM, NOTIFY: without parameters
        assert "$1" not in query.text
        return
    found = await db.fetch(_PARAMETERS)
    await db.execute("DEALLOCATE looked_at")
    assert [tuple(row) for row in found] == []
