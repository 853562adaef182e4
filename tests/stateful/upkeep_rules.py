"""Rules about what happens to tasks without the API: workers, and somebody in psql."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ains.db import dispatch, sweeps
from ains.db.sql import load
from tests.stateful.base import TTL, Machine
from tests.stateful.model import BY_HAND, IN_FLIGHT

FOLD = load("upkeep")["fold"]


class UpkeepRules(Machine):
    """What workers and administrators do."""

    # What the workers do, step by step

    @precondition(lambda self: self.has("PENDING"))
    @rule()
    def dispatch(self) -> None:
        """One pass of the dispatcher."""
        runnable = [t for t in self.model.by_status("PENDING") if not t.waiting]
        possible = {task.task_id: self.model.eligible(task) for task in runnable}
        for capability in self.world.wait(dispatch.work(self.world.pool)):
            self.world.wait(dispatch.assign(self.world.pool, capability, 500, TTL))
        for task in runnable:
            now = self.world.ok("GET", f"/aitp/tasks/{task.task_id}")
            eligible = possible[task.task_id]
            assert now["status"] == ("ASSIGNED" if eligible else "PENDING"), task
            if eligible:
                assert now["assigned_agent_id"] in eligible
                self.model.assign(task, now["assigned_agent_id"])

    @precondition(lambda self: any(t.waiting for t in self.model.by_status("PENDING")))
    @rule()
    def retries_fall_due(self) -> None:
        waiting = [task for task in self.model.by_status("PENDING") if task.waiting]
        self.world.sql(
            "UPDATE tasks SET next_retry_at = now() - interval '1 second'"
            " WHERE status = 'PENDING' AND next_retry_at IS NOT NULL"
        )
        assert self.world.wait(sweeps.release_retries(self.world.pool)) == len(waiting)
        for task in waiting:
            task.waiting = False

    @precondition(lambda self: self.has(*IN_FLIGHT))
    @rule(data=st.data())
    def time_out(self, data: st.DataObject) -> None:
        task = self.task(data, *IN_FLIGHT)
        self.world.sql_on(
            "UPDATE tasks SET deadline_at = now() - interval '1 second' WHERE task_id = $1",
            task.task_id,
        )
        answer = self.world.ok("POST", "/aitp/maintenance/check-timeouts")
        assert answer["timed_out_count"] == 1
        self.model.end_attempt(task, "timeout")

    @precondition(lambda self: self.has("PENDING"))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        task = self.task(data, "PENDING")
        self.world.sql_on(
            "UPDATE tasks SET expires_at = now() - interval '1 second' WHERE task_id = $1",
            task.task_id,
        )
        assert self.world.wait(sweeps.expire(self.world.pool)) == 1
        self.model.expire(task)

    @rule()
    def fold(self) -> None:
        self.world.wait(self.world.pool.fetchval(FOLD, 10_000))

    # What somebody does in psql

    @precondition(lambda self: self.has())
    @rule(data=st.data(), status=st.sampled_from(("COMPLETED", "FAILED", "CANCELLED")))
    def overwrite(self, data: st.DataObject, status: str) -> None:
        task = self.task(data)
        self.world.sql_on(
            "UPDATE tasks SET status = $2::text, failure_reason ="
            " CASE WHEN $2 = 'FAILED' THEN $3 ELSE failure_reason END WHERE task_id = $1",
            task.task_id,
            status,
            BY_HAND,
        )
        self.model.overwrite(task, status)

    @precondition(lambda self: self.has())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        task = self.task(data)
        self.world.sql_on("DELETE FROM tasks WHERE task_id = $1", task.task_id)
        self.model.delete(task)
