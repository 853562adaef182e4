"""What is asked of which server."""

import json
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.support.database import CAPABILITY, CLIENT
from benchmarks.support.load import Request

__all__ = ["BATCH", "PAST", "SCENARIOS", "Scenario"]

BATCH: Final = 100

Server = Literal["bare", "ains", "large"]


@dataclass(frozen=True)
class Scenario:
    """One line of the table; a unit of work counts ``weight`` in ``unit``."""

    name: str
    server: Server
    requests: list[Request]
    unit: str = "requests"
    weight: int = 1
    baseline: str | None = None


def _post(path: str, body: object) -> Request:
    return {"method": "POST", "path": path, "body": json.dumps(body)}


def _get(path: str) -> Request:
    return {"method": "GET", "path": path, "body": ""}


def _put(path: str, body: object) -> Request:
    return {"method": "PUT", "path": path, "body": json.dumps(body)}


_WORK: Final = {
    "task_type": "summary",
    "capability_required": CAPABILITY,
    "input_data": {"text": "The quick brown fox jumps over the lazy dog.", "sentences": 2},
    "priority": 5,
    "timeout_seconds": 86400,
}
_TASK: Final = {"client_id": CLIENT, **_WORK}
_REPORT: Final = "/aitp/tasks/{task_id}/status?agent_id={agent_id}"
_CREATE: Final = _post("/ains/tasks", _TASK)

SCENARIOS: Final = (
    Scenario("bare GET /health", "bare", [_get("/health")]),
    Scenario("GET /health", "ains", [_get("/health")], baseline="bare GET /health"),
    Scenario("GET /docs", "ains", [_get("/docs")]),
    Scenario("bare INSERT", "bare", [_post("/insert", _TASK)]),
    Scenario("POST /ains/tasks", "ains", [_CREATE], baseline="bare INSERT"),
    Scenario(
        "POST /aitp/tasks/batch",
        "ains",
        [_post("/aitp/tasks/batch", {"client_id": CLIENT, "tasks": [_WORK] * BATCH})],
        unit="tasks",
        weight=BATCH,
    ),
    Scenario(
        "task lifecycle",
        "ains",
        [
            _CREATE,
            _put(_REPORT, {"status": "ACTIVE"}),
            _put(_REPORT, {"status": "COMPLETED", "result_data": {"text": "A fox jumps."}}),
        ],
        unit="lifecycles",
    ),
)

PAST: Final = Scenario(
    "POST /ains/tasks, 10,000 agents, 1 M tasks", "large", [_CREATE], baseline="POST /ains/tasks"
)
