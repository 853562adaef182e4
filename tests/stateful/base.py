"""What all rules share: the model, the choices, and the comparison."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import ClassVar, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.stateful.model import ENDED, LIVE, Model, Task
from tests.stateful.world import World

_T = TypeVar("_T")

SKILLS = ("sum", "sum", "draw", "draw", "fly")  # nobody can fly at first
TTL = timedelta(hours=1)
COMPARE_EVERY = 3

runs = count()


class Machine(RuleBasedStateMachine):
    """One example: a model and the part of the world that belongs to it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        # Counters outlive an example, so each has labels of its own.
        self.run = f"run-{next(runs)}"
        self.types = (f"{self.run}-a", f"{self.run}-b")
        self.clients = (f"{self.run}-client-1", f"{self.run}-client-2")
        self.steps = 0
        self.world.sql("DELETE FROM tasks")  # an example that failed leaves some behind
        self.world.sql("DELETE FROM agents")

    # Choosing

    def pick(self, data: st.DataObject, things: Sequence[_T]) -> _T:
        return data.draw(st.sampled_from(things))

    def task(self, data: st.DataObject, *statuses: str) -> Task:
        return self.pick(data, self.model.by_status(*(statuses or LIVE + ENDED)))

    def has(self, *statuses: str) -> bool:
        return bool(self.model.by_status(*(statuses or LIVE + ENDED)))

    # Comparing

    @invariant()
    def compare_now_and_then(self) -> None:
        self.steps += 1
        if self.steps % COMPARE_EVERY == 0:
            self.compare()

    def compare(self) -> None:
        """/metrics and the tasks themselves are what the model says."""
        expected = self.model.expected()
        for family, series in self.world.scrape(self.run).items():
            wanted = expected.get(family, {})
            assert set(series) == set(wanted), family
            for labels, value in series.items():
                assert abs(value - wanted[labels]) < 1e-6, (family, labels, value, wanted[labels])
        for task in list(self.model.tasks.values())[-2:]:
            shown = self.world.ok("GET", f"/aitp/tasks/{task.task_id}")
            found = (shown["status"], shown["retry_count"], shown["assigned_agent_id"])
            assert found == (task.status, task.retries, task.agent)

    def teardown(self) -> None:
        self.compare()
        ids = [UUID(task.task_id) for task in self.model.by_status(*LIVE)]
        self.world.sql("DELETE FROM tasks WHERE task_id = ANY ($1)", ids)
        for task in self.model.by_status(*LIVE):
            self.model.delete(task)
        self.compare()
