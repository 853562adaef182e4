"""An agent written from the contract alone: plain HTTP, nothing of AINS imported."""

import asyncio
import secrets
from time import time
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import serving


class Agent:
    """Registers, publishes, beats, polls ASSIGNED, reports."""

    def __init__(self, http: aiohttp.ClientSession, url: str, agent_id: str) -> None:
        self.http = http
        self.url = url
        self.agent_id = agent_id
        self.done: list[str] = []

    async def call(self, method: str, path: str, expected: int = 200, **arguments: Any) -> Any:
        async with self.http.request(method, self.url + path, **arguments) as response:
            answer = await response.json(content_type=None)
            assert response.status == expected, answer
            return answer

    async def introduce(self) -> None:
        # Existing agents send random signatures.
        agent = await self.call(
            "POST",
            "/ains/agents",
            json={
                "agent_id": self.agent_id,
                "public_key": secrets.token_hex(32),
                "display_name": "From the contract",
                "endpoint": "http://127.0.0.1:9/agent",
                "signature": secrets.token_hex(64),
                "field_of_an_old_client": [1, 2],
            },
        )
        assert (agent["status"], agent["trust_score"]) == ("REGISTERED", 0.5)
        assert agent["verified"] is False
        published = await self.call(
            "POST",
            f"/ains/agents/{self.agent_id}/capabilities",
            json={
                "name": "Summarize",
                "description": "Makes long things short",
                "input_schema": {"type": "object"},
                "output_schema": {"type": "object"},
                "pricing_model": "per_task",
                "price": 0.1,
                "latency_p99_ms": 900,
                "availability_percent": 99.5,
                "signature": secrets.token_hex(64),
            },
        )
        assert published["status"] == "published"

    async def heartbeat(self) -> None:
        answer = await self.call(
            "POST",
            f"/ains/agents/{self.agent_id}/heartbeat",
            json={"timestamp": int(time()), "status": "ACTIVE", "uptime_ms": 1000},
        )
        assert answer["acknowledged"] is True
        assert answer["agent_status"] == "AVAILABLE"
        assert answer["next_heartbeat_in"] > 0

    async def work(self, until: int) -> None:
        """Poll and report until ``until`` tasks are done."""
        while len(self.done) < until:
            page = await self.call(
                "GET",
                "/aitp/tasks",
                params={"assigned_agent_id": self.agent_id, "status": "ASSIGNED", "limit": 100},
            )
            for task in page["tasks"]:
                await self.report(task["task_id"], {"status": "ACTIVE"})
                result = {"words": len(task["input_data"]["text"].split())}
                answer = await self.report(
                    task["task_id"], {"status": "COMPLETED", "result_data": result}
                )
                assert answer["status"] == "COMPLETED"
                self.done.append(task["task_id"])
            await asyncio.sleep(0.05)

    async def report(self, task_id: str, body: dict[str, Any]) -> Any:
        return await self.call(
            "PUT", f"/aitp/tasks/{task_id}/status", params={"agent_id": self.agent_id}, json=body
        )


async def test_an_agent_written_from_the_contract_completes_tasks(service_url: str) -> None:
    async with serving(database_url=service_url) as server, aiohttp.ClientSession() as http:
        agent = Agent(http, server.url, "contract-agent")
        await agent.introduce()
        await agent.heartbeat()

        work = {
            "task_type": "summary",
            "capability_required": "summarize",
            "input_data": {"text": "three little words"},
        }
        # One that is routed in the call, one for the dispatcher, and a batch.
        routed = await agent.call("POST", "/ains/tasks", json={"client_id": "anybody"} | work)
        assert (routed["status"], routed["assigned_agent_id"]) == ("ASSIGNED", "contract-agent")
        queued = await agent.call(
            "POST", "/aitp/tasks", json={"client_id": "contract-agent", "priority": 9} | work
        )
        assert queued["status"] == "PENDING"
        batch = await agent.call(
            "POST", "/aitp/tasks/batch", json={"client_id": "contract-agent", "tasks": [work] * 5}
        )
        assert (batch["created"], batch["failed"]) == (5, 0)

        async with asyncio.timeout(20):
            await agent.work(until=7)
        assert set(agent.done) == {routed["task_id"], queued["task_id"], *batch["task_ids"]}

        for task_id in agent.done:
            task = await agent.call("GET", f"/aitp/tasks/{task_id}")
            assert task["status"] == "COMPLETED"
            assert task["result_data"] == {"words": 3}
            assert task["assigned_agent_id"] == "contract-agent"
        trust = await agent.call("GET", "/ains/agents/contract-agent/trust")
        assert trust["total_tasks_completed"] == 7
        # Faster than half the timeout: +0.05 each.
        assert abs(trust["trust_score"] - 0.85) < 1e-9

        async with http.get(f"{server.url}/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        [completed] = [family for family in families if family.name == "ains_tasks_completed"]
        labels = {"task_type": "summary", "agent_id": "contract-agent"}
        assert [(s.labels, s.value) for s in completed.samples] == [(labels, 7.0)]


async def test_two_agents_never_get_the_same_task(service_url: str) -> None:
    async with serving(database_url=service_url) as server, aiohttp.ClientSession() as http:
        agents = [Agent(http, server.url, f"agent-{n}") for n in range(2)]
        for agent in agents:
            await agent.introduce()
            await agent.heartbeat()
        tasks = [
            {
                "task_type": "summary",
                "capability_required": "summarize",
                "input_data": {"text": "one two"},
            }
        ] * 60
        batch = await agents[0].call(
            "POST", "/aitp/tasks/batch", json={"client_id": "agent-0", "tasks": tasks}
        )
        workers = [asyncio.create_task(agent.work(until=61)) for agent in agents]
        try:
            async with asyncio.timeout(30):
                while sum(len(agent.done) for agent in agents) < 60:
                    await asyncio.sleep(0.05)
                    for worker in workers:
                        assert not worker.done() or worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        assert sorted(agents[0].done + agents[1].done) == sorted(batch["task_ids"])
        assert all(len(agent.done) >= 10 for agent in agents), "round robin shares the work"
