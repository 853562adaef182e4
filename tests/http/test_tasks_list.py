"""GET /aitp/tasks: filters, pages, totals."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ains.db.sql import load
from ains.domain.states import TaskStatus
from tests.support.task_api import TaskApi, task_api

WRITE = """
    INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,
                       created_at)
    SELECT 'c' || (g % 2), 't' || (g % 3), 'x',
           CASE g % 4 WHEN 0 THEN 'PENDING' WHEN 1 THEN 'COMPLETED' WHEN 2 THEN 'FAILED'
                      ELSE 'ASSIGNED' END,
           CASE WHEN g % 4 > 0 THEN 'a' || (g % 5) END,
           now() - (g / 3) * interval '1 second'
      FROM generate_series(1, $1) AS g
"""


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[TaskApi]:
    async with task_api(database_url) as running:
        yield running


async def expected(api: TaskApi, filters: dict[str, str]) -> list[str]:
    where = " AND ".join(f"{key} = '{value}'" for key, value in filters.items()) or "true"
    rows = await api.db.fetch(
        f"SELECT task_id FROM tasks WHERE {where} ORDER BY created_at DESC, task_id DESC"
    )
    return [str(row["task_id"]) for row in rows]


# Every combination of filters; all four together need values that occur together.
VALUES = {"client_id": "c1", "status": "COMPLETED", "task_type": "t0", "assigned_agent_id": "a3"}
ALL_FOUR = {"client_id": "c1", "status": "COMPLETED", "task_type": "t0", "assigned_agent_id": "a4"}
FILTERS = [
    {key: (ALL_FOUR if len(chosen) == len(VALUES) else VALUES)[key] for key in chosen}
    for count in range(len(VALUES) + 1)
    for chosen in itertools.combinations(VALUES, count)
]


@pytest.mark.parametrize("filters", FILTERS, ids=lambda f: "+".join(f) or "none")
async def test_pages_by_cursor_and_by_offset_show_everything_once(
    api: TaskApi, filters: dict[str, str]
) -> None:
    await api.db.execute(WRITE, 120)
    wanted = await expected(api, filters)
    assert wanted
    by_cursor: list[str] = []
    cursor = None
    while True:
        page = await api.ok("GET", "/aitp/tasks", limit=7, cursor=cursor, **filters)
        assert (page["total"], page["total_relation"]) == (len(wanted), "eq")
        by_cursor += [task["task_id"] for task in page["tasks"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["tasks"]) == 7
    assert by_cursor == wanted
    by_offset: list[str] = []
    while len(by_offset) < len(wanted):
        page = await api.ok("GET", "/aitp/tasks", limit=50, offset=len(by_offset), **filters)
        assert (page["limit"], page["offset"]) == (50, len(by_offset))
        by_offset += [task["task_id"] for task in page["tasks"]]
    assert by_offset == wanted


async def test_listed_task_has_what_an_agent_needs(api: TaskApi) -> None:
    await api.agent()
    task = await api.submit(input_data={"n": [1, {"k": None}]})
    [listed] = (await api.ok("GET", "/aitp/tasks", assigned_agent_id="a1", status="ASSIGNED"))[
        "tasks"
    ]
    assert listed == {
        "task_id": task["task_id"],
        "client_id": "c1",
        "task_type": "add",
        "status": "ASSIGNED",
        "priority": 5,
        "assigned_agent_id": "a1",
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
        "input_data": {"n": [1, {"k": None}]},
        "capability_required": "sum",
    }


async def test_empty_list_and_page_beyond_the_end(api: TaskApi) -> None:
    nothing = {"tasks": [], "total": 0, "total_relation": "eq", "next_cursor": None}
    assert await api.ok("GET", "/aitp/tasks") == nothing | {"limit": 20, "offset": 0}
    await api.submit()
    beyond = await api.ok("GET", "/aitp/tasks", offset=2**63 - 1, limit=100)
    assert (beyond["tasks"], beyond["total"], beyond["next_cursor"]) == ([], 1, None)


async def test_cursor_stays_where_it_was_when_tasks_are_added(api: TaskApi) -> None:
    await api.db.execute(WRITE, 10)
    wanted = await expected(api, {})
    page = await api.ok("GET", "/aitp/tasks", limit=5)
    await api.submit()
    rest = await api.ok("GET", "/aitp/tasks", limit=50, cursor=page["next_cursor"])
    assert [task["task_id"] for task in rest["tasks"]] == wanted[5:]
    assert rest["next_cursor"] is None


async def test_total_is_exact_to_ten_thousand(api: TaskApi) -> None:
    await api.db.execute(WRITE, 10_000)
    page = await api.ok("GET", "/aitp/tasks", limit=1)
    assert (page["total"], page["total_relation"]) == (10_000, "eq")
    await api.submit()
    page = await api.ok("GET", "/aitp/tasks", limit=1)
    assert (page["total"], page["total_relation"]) == (10_000, "gte")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"offset": -1},
        {"offset": 2**63},
        {"status": "DONE"},
        {"cursor": "x"},
        {"cursor": ""},
        {"cursor": "é"},
        {"cursor": "f" * 32},
        {"cursor": "_" * 5000},
        {"client_id": "\0"},
    ],
    ids=repr,
)
async def test_malformed_query_is_422(api: TaskApi, query: dict[str, Any]) -> None:
    assert (await api.call("GET", "/aitp/tasks", **query))[0] == 422


@pytest.mark.parametrize("name", load("task_lists"))
async def test_plan_of_a_page_never_reads_the_table(api: TaskApi, name: str) -> None:
    """The plan that serves every later call, made without knowing the parameters."""
    await api.db.execute(
        "SET session_replication_role = replica;"
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id)"
        " SELECT 'c' || g % 5, 't' || g % 7, 'x', 'COMPLETED', 'a' || g % 50"
        " FROM generate_series(1, 30000) AS g; ANALYZE tasks;"
        "SET plan_cache_mode = force_generic_plan"
    )
    text = load("task_lists")[name].text
    filters = sum(f"${n}" in text for n in (7, 8, 9))
    values = ["'{" + ",".join(TaskStatus) + "}'", "NULL", "NULL", "20", "0", "10001"]
    values += ["'c1'", "NULL", "NULL"][:filters]
    types = ["text[]", "timestamptz", "uuid", "bigint", "bigint", "bigint"] + ["text"] * filters
    await api.db.execute(f"PREPARE page ({', '.join(types)}) AS {text}")
    plan = await api.db.fetch(f"EXPLAIN EXECUTE page ({', '.join(values)})")
    lines = "\n".join(row[0] for row in plan)
    assert "Seq Scan on tasks" not in lines, lines
    assert lines.count("Index") >= 3, lines
