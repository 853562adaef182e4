"""What pgbench does, and the databases it does it in."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from ains.db.sql import load
from benchmarks.support.database import CAPABILITY, add_agents, connected

__all__ = [
    "AGENTS",
    "CLIENTS",
    "SCRIPTS",
    "VARIANTS",
    "WITHOUT_FACTS",
    "count",
    "prepare",
    "reset",
    "script_of",
    "until_alone",
]

AGENTS: Final = 1000
CLIENTS: Final = 100

# The columns that the API writes. Keys grow with time, as the API's do.
_VALUES: Final = f"""\
\\set agent random(1, {AGENTS})
\\set client random(1, {CLIENTS})
\\set type random(1, 20)
"""
_INSERT: Final = """\
INSERT INTO tasks (task_id, client_id, task_type, capability_required, input_data) \
VALUES ({key}(), 'bench-agent-' || :client::integer, 'type-' || :type::integer, 'benchmark', \
'{"text": "what there is to do"}') RETURNING """
_CHANGES: Final = (
    """\
UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'bench-agent-' || :agent::integer, \
last_agent_id = 'bench-agent-' || :agent::integer, failure_reason = NULL, assigned_at = now(), \
deadline_at = now() + make_interval(secs => timeout_seconds), updated_at = now() \
WHERE task_id = :task_id::uuid AND status = 'PENDING'""",
    """\
UPDATE tasks SET status = 'ACTIVE', started_at = now(), \
deadline_at = now() + make_interval(secs => timeout_seconds), updated_at = now() \
WHERE task_id = :task_id::uuid AND status = 'ASSIGNED'""",
    """\
UPDATE tasks SET status = 'COMPLETED', result_data = '{"text": "what came of it"}', \
failure_reason = NULL, deadline_at = NULL, completed_at = now(), updated_at = now() \
WHERE task_id = :task_id::uuid AND status = 'ACTIVE'""",
)
# The same facts as the ledger's trigger writes, by whoever changes the task and by no other.
_FACT: Final = """\
WITH t AS ({change}) INSERT INTO task_events_open (at, task_id, task_type, client_id, \
agent_id, from_status, to_status, priority, took_us) \
SELECT clock_timestamp(), {fact} FROM t RETURNING task_id"""
_CREATED: Final = """\
task_id, task_type, client_id, '', '', 'PENDING', priority, NULL"""
_CHANGED: Final = """\
task_id, task_type, client_id, assigned_agent_id, '{before}', '{after}', priority, {took}"""
_FACTS: Final = tuple(
    _CHANGED.format(before=before, after=after, took=took)
    for before, after, took in (
        ("PENDING", "ASSIGNED", "microseconds(assigned_at - queued_at)"),
        ("ASSIGNED", "ACTIVE", "NULL"),
        ("ACTIVE", "COMPLETED", "microseconds(completed_at - started_at)"),
    )
)


def _with_fact(change: str, fact: str) -> str:
    return _FACT.replace("{change}", change).replace("{fact}", fact)


def _service(name: str, *arguments: str) -> str:
    """The service's own statement, its parameters replaced, in one line."""
    text = load("tasks")[name].text
    for number, argument in reversed([*enumerate(arguments, 1)]):
        text = text.replace(f"${number}", argument)
    return " ".join(text.split())


# What POST /ains/tasks, an agent's reports of ACTIVE and of COMPLETED send.
_DATA: Final = """'{"text": "what there is to do"}'::json"""
_SUBMIT: Final = _service(
    "submit",
    "{key}()",
    "'bench-agent-' || :client::integer",
    "'type-' || :type::integer",
    f"'{CAPABILITY}'",
    _DATA,
    *("5", "300", "3", "'exponential'", "'round_robin'", "interval '1 day'"),
)
_REPORTED: Final = (":task_id::uuid", ":assigned_agent_id::text")
_SERVICE: Final = f"""\
{_VALUES}{_SUBMIT} \\gset
{_service("start", *_REPORTED)};
{_service("complete", *_REPORTED, _DATA, "NULL::text")};
"""
_LIFECYCLE: Final = "".join(f"{change};\n" for change in _CHANGES)
SCRIPTS: Final = {
    "the service's lifecycle": _SERVICE,
    "lifecycle": f"{_VALUES}{_INSERT}task_id \\gset\n{_LIFECYCLE}",
    "INSERT": f"{_VALUES}{_INSERT}task_id \\gset\n",
}
"""By name; ``{key}`` stands for the function that makes a key."""
_INSERT_BY_CLIENT: Final = _VALUES + _with_fact(f"{_INSERT}*", _CREATED) + " \\gset\n"
_BY_CLIENT: Final = {
    "lifecycle": _INSERT_BY_CLIENT
    + "".join(
        _with_fact(f"{change} RETURNING *", fact) + ";\n"
        for change, fact in zip(_CHANGES, _FACTS, strict=True)
    ),
    "INSERT": _INSERT_BY_CLIENT,
}
"""Those that write their facts by themselves."""

_WEBHOOKS: Final = """
    INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
    SELECT gen_random_uuid(), 'bench-agent-' || i, 'http://127.0.0.1:9/', '127.0.0.1',
           '{task.completed}', 'whsec_'
      FROM generate_series(10, $1, 10) AS i
"""
_CONSEQUENCES: Final = re.compile(r"^ *done := public\.task_consequences\([^;]*;\n", re.MULTILINE)
_FACT_WRITTEN: Final = re.compile(r"\bINSERT INTO public\.task_events_open\b[^;]*;")
_OTHERS: Final = """
    SELECT EXISTS (SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND backend_type = 'client backend'
                      AND pid <> pg_backend_pid())
"""
_EMPTIED: Final = (
    "tasks, task_dependencies, task_events_open, task_events_closed, trust_records, "
    "webhook_deliveries, webhook_attempts, webhook_events_open, webhook_events_closed"
)


async def _without_triggers(connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE tasks DISABLE TRIGGER USER")


async def _leave_out(connection: asyncpg.Connection, part: re.Pattern[str]) -> None:
    definition = await connection.fetchval("SELECT pg_get_functiondef('tasks_ledger'::regproc)")
    without, found = part.subn("NULL;\n", definition)
    if not found:
        raise LookupError(f"nothing in tasks_ledger() is like {part.pattern}: what to leave out?")
    await connection.execute(without)


async def _ledger_alone(connection: asyncpg.Connection) -> None:
    """Nothing follows from a fact."""
    await _leave_out(connection, _CONSEQUENCES)


async def _everything(connection: asyncpg.Connection) -> None:
    """As users have it; every tenth client has a webhook that hears of completed tasks."""
    await connection.execute(_WEBHOOKS, CLIENTS)


async def _all_but_the_facts(connection: asyncpg.Connection) -> None:
    """What follows from a change follows, and nobody takes note of the change."""
    await _everything(connection)
    await _leave_out(connection, _FACT_WRITTEN)
    await connection.execute("ALTER TABLE webhook_deliveries DISABLE TRIGGER USER")


VARIANTS: Final[dict[str, Callable[[asyncpg.Connection], Awaitable[None]]]] = {
    "no triggers": _without_triggers,
    "facts by the client": _without_triggers,
    "the ledger": _ledger_alone,
    "all but the facts": _all_but_the_facts,
    "everything": _everything,
}
WITHOUT_FACTS: Final = {"everything": "all but the facts"}
"""What does the same but for the facts."""


def script_of(name: str, variant: str) -> str | None:
    """What pgbench shall do; None where there is no such variant."""
    return _BY_CLIENT.get(name) if variant == "facts by the client" else SCRIPTS[name]


async def prepare(url: str, variant: str) -> str:
    """Fill a fresh database; returns the function that makes its keys."""
    await add_agents(url, AGENTS)
    async with connected(url) as connection:
        await VARIANTS[variant](connection)
        native = await connection.fetchval("SELECT to_regproc('uuidv7') IS NOT NULL")
        return "uuidv7" if native else "gen_random_uuid"


async def count(url: str) -> int:
    """How many tasks there are: each script makes one."""
    async with connected(url) as connection:
        tasks: int = await connection.fetchval("SELECT count(*) FROM tasks")
        return tasks


async def until_alone(url: str, patience: float = 10.0) -> None:
    """Wait until everybody else has left the database."""
    others = True
    async with connected(url) as connection, asyncio.timeout(patience):
        while others:
            await asyncio.sleep(0.02)
            others = await connection.fetchval(_OTHERS)


async def reset(url: str) -> None:
    """Take away what a round has left, so that each begins alike."""
    async with connected(url, command_timeout=600) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(f"TRUNCATE {_EMPTIED}")
        await connection.execute("DELETE FROM metrics.totals")
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
