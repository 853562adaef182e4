"""What the state machine acts on: a server, its database, and the numbers that it shows."""

import asyncio
import json
from collections.abc import Coroutine
from http.client import HTTPConnection
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from ains.db.pool import Database
from tests.stateful.model import Labels

_T = TypeVar("_T")

# Label names in the order in which the model has their values.
LABELS = {
    "ains_tasks_created_total": ("task_type", "client_id"),
    "ains_tasks_completed_total": ("task_type", "agent_id"),
    "ains_tasks_failed_total": ("task_type", "failure_reason"),
    "ains_tasks_cancelled_total": ("task_type",),
    "ains_tasks_reopened_total": ("task_type",),
    "ains_task_retries_total": ("task_type", "retry_count"),
    "ains_task_timeouts_total": ("task_type",),
    "ains_task_duration_seconds_count": ("task_type", "status"),
    "ains_task_queue_seconds_count": ("task_type",),
    "ains_tasks_in_queue": ("priority",),
    "ains_tasks_in_flight": ("status",),
    "ains_tasks_blocked": (),
    "ains_agents_total": (),
    "ains_agents_active": (),
    "ains_agents_by_status": ("status",),
    "ains_agent_trust_score": ("agent_id", "display_name"),
    "ains_agent_tasks_completed_total": ("agent_id",),
    "ains_agent_tasks_failed_total": ("agent_id",),
}
NAMES = ["ains_up", *LABELS]


class World:
    """Blocking calls, for a thread beside the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, db: asyncpg.Connection, pool: Database
    ) -> None:
        self._loop = loop
        self._http = HTTPConnection(urlsplit(url).netloc, timeout=10)
        self._db = db
        self.pool = pool

    def close(self) -> None:
        self._http.close()

    def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Have the event loop run ``coroutine``."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def sql(self, statement: str, *arguments: object) -> int:
        """Run a statement as somebody in psql would; returns the number of rows."""
        tag: str = self.wait(self._db.execute(statement, *arguments))
        return int(tag.rsplit(" ", 1)[-1])

    def sql_on(self, statement: str, task_id: str, *arguments: object) -> None:
        """Run a statement whose first parameter is a task that exists."""
        assert self.sql(statement, UUID(task_id), *arguments) == 1

    def call(
        self, method: str, path: str, body: object = None, **query: str
    ) -> tuple[int, dict[str, Any]]:
        """One request."""
        target = quote(path) + ("?" + urlencode(query) if query else "")
        self._http.request(method, target, None if body is None else json.dumps(body))
        response = self._http.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        return response.status, answer

    def ok(self, method: str, path: str, body: object = None, **query: str) -> dict[str, Any]:
        """One request that must succeed."""
        status, answer = self.call(method, path, body, **query)
        assert status == 200, (method, path, answer)
        return answer

    def scrape(self, run: str) -> dict[str, dict[Labels, float]]:
        """The families of `LABELS` as the server shows them now, without those of other runs."""
        self._http.request("GET", "/metrics?" + urlencode([("name[]", name) for name in NAMES]))
        response = self._http.getresponse()
        text = response.read().decode()
        assert response.status == 200
        found: dict[str, dict[Labels, float]] = {family: {} for family in LABELS}
        # The parser is slow, so it gets no buckets and nothing of earlier runs.
        lines = [
            line
            for line in text.splitlines()
            if not line.startswith("#")
            and ('"run-' not in line or f'"{run}-' in line)
            and "_bucket{" not in line
        ]
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if names := LABELS.get(sample.name):
                    assert set(names) == set(sample.labels), sample
                    labels = tuple(sample.labels[name] for name in names)
                    found[sample.name][labels] = sample.value
                elif sample.name in LABELS:
                    found[sample.name][()] = sample.value
        assert "ains_up 1.0" in lines
        return found
