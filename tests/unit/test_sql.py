"""Named queries: what they are called and counted as."""

import re
from importlib.resources import files

import pglast
import pytest

from ains.db.migrations import script_location
from ains.db.sql import Query, load, parse

NOUNS = sorted(
    path.name.removesuffix(".sql") for path in files("ains.db").joinpath("queries").iterdir()
)


@pytest.mark.parametrize(
    ("statement", "verb", "table"),
    [
        ("SELECT 1 FROM metrics.totals WHERE a = 'FROM x'", "SELECT", "totals"),
        ("SELECT 1 FROM tasks FOR NO KEY UPDATE", "SELECT", "tasks"),
        ("WITH a AS (SELECT * FROM agents FOR UPDATE) UPDATE tasks SET x = 1", "UPDATE", "tasks"),
        ("INSERT INTO agents VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1", "INSERT", "agents"),
        ("delete from public.tasks", "DELETE", "tasks"),
        ("SHOW server_version", "OTHER", "none"),
        ("-- counts as: UPDATE tasks\nSELECT end_attempts($1)", "UPDATE", "tasks"),
    ],
)
def test_statement_is_counted_by_verb_and_main_table(statement: str, verb: str, table: str) -> None:
    query = Query.of("q", statement)
    assert (query.verb, query.table) == (verb, table)


def test_file_is_split_at_names() -> None:
    queries = parse("-- About this file.\n\n-- name: a\nSELECT 1;\n\n-- name: b\n-- Why.\nSELECT 2")
    assert {name: query.text for name, query in queries.items()} == {
        "a": "SELECT 1;",
        "b": "SELECT 2",
    }


@pytest.mark.parametrize(
    "source", ["SELECT 1\n-- name: a\nSELECT 2", "-- name: a\nSELECT 1\n-- name: a\nSELECT 2"]
)
def test_ambiguous_file_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"SQL before|two queries"):
        parse(source)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_query_is_one_valid_statement(noun: str) -> None:
    for query in load(noun).values():
        assert len(pglast.parse_sql(query.text)) == 1, query.name


def test_every_query_is_counted_by_a_table_that_exists() -> None:
    scripts = (script_location() / "sql").rglob("*.sql")
    tables = {
        table
        for script in scripts
        for table in re.findall(r"CREATE (?:TABLE|VIEW) \w+\.(\w+)", script.read_text("utf-8"))
    }
    named = {(noun, name): query.table for noun in NOUNS for name, query in load(noun).items()}
    strange = {
        key: table
        for key, table in named.items()
        if table not in tables | {"none", "ains_schema_version"} and not table.startswith("pg_")
    }
    assert strange == {}
