"""A real Prometheus scrapes a real ``ains serve``, and PromQL gives the contract's answers."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
import asyncpg
import pytest

from ains.client import AgentWorker, AinsClient, Assignment, TaskFailed
from tests.support.databases import eventually
from tests.support.live import free_port, until_ready
from tests.support.serving import serving

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="apt-get install prometheus"
)

# Names that the contract fixed long ago, and that promtool would choose otherwise.
CONTRACTS_OWN = {
    'ains_agents_total non-counter metrics should not have "_total" suffix',
}


@asynccontextmanager
async def prometheus(directory: Path, *targets: str) -> AsyncIterator[str]:
    """Run Prometheus on ``targets`` (host:port), scraping twice a second; yields its URL."""
    assert PROMETHEUS is not None
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [{"job_name": "ains", "static_configs": [{"targets": targets}]}],
    }
    file = directory / "prometheus.yml"
    file.write_text(json.dumps(config))  # YAML is a superset of JSON
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (directory / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        await until_ready(f"{url}/-/ready", process)
        yield url
    except BaseException as error:
        error.add_note((directory / "prometheus.log").read_text()[-3000:])
        raise
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        log.close()


class PromQl:
    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def __call__(self, query: str) -> list[dict[str, Any]]:
        """The instant vector of a query; a scalar as [{"value": [time, value]}]."""
        async with self._http.get(f"{self._url}/api/v1/query", params={"query": query}) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        data = answer["data"]
        return data["result"] if data["resultType"] == "vector" else [{"value": data["result"]}]

    async def value(self, query: str) -> float | None:
        """The one value of a query, None when it has none."""
        result = await self(query)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    async def exemplars(self, query: str) -> dict[str, set[str]]:
        """Tasks that the exemplars of a query name, by ``le``; waits for one of the last minute."""
        deadline = monotonic() + 20
        while not (found := await self._exemplars(query)):
            assert monotonic() < deadline, f"{query} has no exemplar"
            await asyncio.sleep(0.1)
        return found

    async def _exemplars(self, query: str) -> dict[str, set[str]]:
        now = time()
        parameters = {"query": query, "start": str(now - 60), "end": str(now + 60)}
        async with self._http.get(
            f"{self._url}/api/v1/query_exemplars", params=parameters
        ) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        found: dict[str, set[str]] = {}
        for series in answer["data"]:
            tasks = found.setdefault(series["seriesLabels"]["le"], set())
            tasks.update(exemplar["labels"]["task_id"] for exemplar in series["exemplars"])
        return found

    async def until(self, query: str, expected: float) -> None:
        """Wait until a query has this value."""
        deadline = monotonic() + 20
        while (found := await self.value(query)) != expected:
            assert monotonic() < deadline, f"{query} is {found}, not {expected}"
            await asyncio.sleep(0.1)


async def double(task: Assignment) -> dict[str, int]:
    if task.input_data["x"] < 0:
        raise TaskFailed("negative_input")
    return {"x": 2 * task.input_data["x"]}


@needs_prometheus
async def test_promql_agrees_with_what_happened(service_url: str, tmp_path: Path) -> None:
    async with (
        serving(database_url=service_url) as server,
        AinsClient(server.url) as ains,
        prometheus(tmp_path, server.url.removeprefix("http://")) as prometheus_url,
        aiohttp.ClientSession() as http,
    ):
        ask = PromQl(http, prometheus_url)
        await ask.until("up", 1)
        await ask.until("ains_up", 1)
        worker = AgentWorker(ains, "doubler", {"double": double}, poll_interval=0.05)
        working = asyncio.create_task(worker.run())
        doubled = [
            await ains.tasks.create(
                "acme",
                task_type="double",
                capability_required="double",
                input_data={"x": x},
                max_retries=0,
            )
            for x in (*range(10), -1, -2)
        ]
        waiting = await ains.tasks.create(
            "acme", task_type="fly", capability_required="fly", priority=9
        )
        cancelled = await ains.tasks.create("acme", task_type="fly", capability_required="fly")
        await ains.tasks.cancel(cancelled.task_id, "acme")

        await ask.until("sum(ains_tasks_completed_total)", 10)
        await ask.until("sum(ains_tasks_failed_total)", 2)
        await ask.until('ains_agents_by_status{status="AVAILABLE"}', 1)
        assert (
            await ask.value('ains_tasks_created_total{task_type="double",client_id="acme"}') == 12
        )
        assert await ask.value('ains_agent_tasks_completed_total{agent_id="doubler"}') == 10
        assert await ask.value('ains_tasks_failed_total{failure_reason="negative_input"}') == 2
        assert await ask.value('ains_task_duration_seconds_count{status="COMPLETED"}') == 10
        assert await ask.value('ains_task_duration_seconds_bucket{status="FAILED",le="+Inf"}') == 2
        assert await ask.value('ains_tasks_in_queue{priority="9"}') == 1
        assert await ask.value("count(ains_tasks_in_queue)") == 10
        assert await ask.value("ains_tasks_cancelled_total") == 1
        assert await ask.value("ains_agents_active") == 1
        assert await ask.value('ains_http_requests_total{endpoint="/ains/tasks"}') == 14
        oldest = await ask.value("ains_task_oldest_pending_timestamp_seconds")
        assert oldest == pytest.approx(waiting.created_at.timestamp(), abs=0.001)
        quantile = "histogram_quantile(0.99, sum by (le) (ains_task_duration_seconds_bucket))"
        assert 0 <= (await ask.value(quantile) or 0) <= 1

        # Each bucket names some of the tasks that are counted in it, once they are folded.
        named = await ask.exemplars('ains_task_duration_seconds_bucket{status="COMPLETED"}')
        assert set(named) == {"1.0"}
        assert named["1.0"]
        assert named["1.0"] <= {str(task.task_id) for task in doubled[:10]}

        # The invariants of the metric contract, asked of Prometheus.
        balance = (
            "sum(ains_tasks_created_total) + (sum(ains_tasks_reopened_total) or vector(0))"
            " - sum(ains_tasks_completed_total) - sum(ains_tasks_failed_total)"
            " - sum(ains_tasks_cancelled_total) - sum(ains_tasks_in_queue)"
            " - sum(ains_tasks_in_flight)"
        )
        assert await ask.value(balance) == 0
        per_agent = (
            "sum by (agent_id) (ains_tasks_completed_total)"
            " - on (agent_id) ains_agent_tasks_completed_total"
        )
        assert await ask.value(per_agent) == 0

        # Counters are monotone for Prometheus: it never sees a reset.
        assert await ask.value("sum(resets(ains_tasks_created_total[1m]))") == 0
        worker.stop()
        await working


@needs_prometheus
async def test_promtool_finds_nothing_but_the_contracts_own_names(
    service_url: str, db: asyncpg.Connection
) -> None:
    assert PROMTOOL is not None
    async with serving(database_url=service_url) as server, AinsClient(server.url) as ains:
        await ains.agents.register("a", tags=["fly"])
        await ains.agents.heartbeat("a")
        # One fact of each kind, so that every family has a sample.
        tasks = [
            await ains.tasks.create(
                "acme", task_type="t", capability_required="fly", max_retries=retries
            )
            for retries in (0, 1, 0)
        ]
        await db.execute(
            "UPDATE tasks SET deadline_at = now() WHERE task_id = $1", tasks[0].task_id
        )

        async def timed_out() -> bool:
            return (await ains.tasks.get(tasks[0].task_id)).status == "FAILED"

        await eventually(timed_out)
        await ains.tasks.fail(tasks[1].task_id, "a", failure_reason="bad_input")
        await ains.tasks.cancel(tasks[1].task_id, "acme")
        await ains.tasks.complete(tasks[2].task_id, "a")
        await db.execute("UPDATE tasks SET status = 'PENDING' WHERE status = 'COMPLETED'")
        metrics = await ains.metrics()
    check = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )
    assert set((check.stdout + check.stderr).splitlines()) == CONTRACTS_OWN
    for fact in ("failed", "cancelled", "reopened"):
        assert f"ains_tasks_{fact}_total{{" in metrics
