"""Rules about tasks: what clients and agents ask of the API."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.stateful.base import SKILLS, Machine
from tests.stateful.model import ENDED, IN_FLIGHT, LIVE, REPORTED, Task

REASONS = (None, "bad_input", "timeout", "expired", "unknown", "agent_lost")
"""What agents give as reason: codes of AINS's own among them, which change nothing."""
STRATEGIES = ("round_robin", "least_loaded", "trust_weighted", "fastest_response")


class TaskRules(Machine):
    """What clients and agents do with tasks."""

    # Submitting

    @rule(data=st.data(), many=st.integers(1, 3))
    def submit(self, data: st.DataObject, many: int) -> None:
        """Routed in the same call, when somebody is free."""
        for _ in range(many):
            task, body = self._new_task(data)
            answer = self.world.ok("POST", "/ains/tasks", body)
            task.task_id = answer["task_id"]
            eligible = self.model.eligible(task)
            self.model.accept(task)
            assert answer["status"] == ("ASSIGNED" if eligible else "PENDING")
            if eligible:
                assert answer["assigned_agent_id"] in eligible
                self.model.assign(task, answer["assigned_agent_id"])

    @rule(data=st.data())
    def queue(self, data: st.DataObject) -> None:
        """Left to the dispatcher; refused when nobody offers it."""
        task, body = self._new_task(data)
        status, answer = self.world.call("POST", "/aitp/tasks", body)
        assert status == (200 if self.model.offered(task.skill) else 400), answer
        if status == 200:
            assert answer["status"] == "PENDING"
            task.task_id = answer["task_id"]
            self.model.accept(task)

    @rule(data=st.data(), size=st.integers(1, 4))
    def queue_batch(self, data: st.DataObject, size: int) -> None:
        client = data.draw(st.sampled_from(self.clients))
        made = [self._new_task(data, client) for _ in range(size)]
        if not all(self.model.offered(task.skill) for task, _ in made):
            return
        body = {"client_id": client, "tasks": [body for _, body in made]}
        answer = self.world.ok("POST", "/aitp/tasks/batch", body)
        assert answer["created"] == size
        for (task, _), task_id in zip(made, answer["task_ids"], strict=True):
            task.task_id = task_id
            self.model.accept(task)

    def _new_task(
        self, data: st.DataObject, client: str | None = None
    ) -> tuple[Task, dict[str, Any]]:
        task = Task(
            "",
            client or data.draw(st.sampled_from(self.clients)),
            data.draw(st.sampled_from(self.types)),
            data.draw(st.sampled_from(SKILLS)),
            data.draw(st.sampled_from(STRATEGIES)),
            data.draw(st.integers(1, 10)),
            data.draw(st.integers(0, 2)),
        )
        return task, {
            "client_id": task.client,
            "task_type": task.type,
            "capability_required": task.skill,
            "input_data": {"x": 1},
            "priority": task.priority,
            "max_retries": task.max_retries,
            "routing_strategy": task.strategy,
            "timeout_seconds": 100,
        }

    # What agents report

    @precondition(lambda self: self.has(*IN_FLIGHT))
    @rule(data=st.data(), many=st.integers(1, 4))
    def report(self, data: st.DataObject, many: int) -> None:
        """What agents ought to do."""
        for _ in range(many):
            if not self.has(*IN_FLIGHT):
                return
            task = self.task(data, *IN_FLIGHT)
            assert task.agent is not None
            status = data.draw(st.sampled_from(("ACTIVE", "COMPLETED", "FAILED")))
            if task.status == "ACTIVE" and data.draw(st.booleans()):
                self._make_slow(task)
            reason = data.draw(st.sampled_from(REASONS))
            assert self._report(task, task.agent, status, reason) == 200

    def _make_slow(self, task: Task) -> None:
        self.world.sql_on(
            "UPDATE tasks SET started_at = now() - interval '70 seconds' WHERE task_id = $1",
            task.task_id,
        )
        task.slow = True

    @precondition(lambda self: self.has() and self.model.agents)
    @rule(
        data=st.data(),
        status=st.sampled_from(("ACTIVE", "COMPLETED", "FAILED")),
        reason=st.sampled_from(REASONS),
    )
    def report_anything(self, data: st.DataObject, status: str, reason: str | None) -> None:
        """Also what is not theirs, not possible any more, or known already."""
        task = self.task(data)
        last = [agent_id for agent_id in (task.agent, task.last_agent) if agent_id]
        self._report(task, self.pick(data, [*self.model.agents, *last]), status, reason)

    def _report(self, task: Task, agent_id: str, status: str, reason: str | None) -> int:
        body: dict[str, Any] = {"status": status}
        if status == "COMPLETED":
            body["result_data"] = {"y": 2}
        if status == "FAILED":
            body |= {"error_message": REPORTED} | ({"failure_reason": reason} if reason else {})
        path = f"/aitp/tasks/{task.task_id}/status"
        code, answer = self.world.call("PUT", path, body, agent_id=agent_id)
        assert code == self.model.report(task, agent_id, status, reason), answer
        if code == 200:
            assert (answer["status"], answer["retry_count"]) == (task.status, task.retries)
        return code

    # What clients change

    @precondition(lambda self: self.has())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = self.task(data)
        client = data.draw(st.sampled_from((task.client, task.client, *self.clients)))
        code, answer = self.world.call("DELETE", f"/aitp/tasks/{task.task_id}", client_id=client)
        if client != task.client:
            assert code == 403, answer
        else:
            assert code == (200 if task.status in LIVE else 400), answer
        if code == 200:
            self.model.cancel(task)

    @precondition(lambda self: self.has(*ENDED))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        task = self.task(data, *(["FAILED"] if self.has("FAILED") else ENDED))
        code, answer = self.world.call("POST", f"/aitp/tasks/{task.task_id}/retry")
        possible = task.status == "FAILED" and task.retries < task.max_retries
        assert code == (200 if possible else 400), answer
        if possible:
            self.model.reopen(task)
            assert answer["retry_count"] == task.retries

    @precondition(lambda self: self.has())
    @rule(data=st.data(), priority=st.integers(1, 10))
    def set_priority(self, data: st.DataObject, priority: int) -> None:
        task = self.task(data)
        path = f"/aitp/tasks/{task.task_id}/priority"
        body = {"new_priority": priority}
        code, answer = self.world.call("PUT", path, body, client_id=task.client)
        assert code == (200 if task.status in LIVE else 400), answer
        if code == 200:
            assert answer["old_priority"] == task.priority
            task.priority = priority
