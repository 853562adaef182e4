"""What AINS should do, in plain Python: dictionaries and the rules of the contracts."""

from collections import Counter
from dataclasses import dataclass

Labels = tuple[str, ...]

LIVE = ("PENDING", "ASSIGNED", "ACTIVE")
IN_FLIGHT = ("ASSIGNED", "ACTIVE")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
STATUS_OF_HEALTH = {"ACTIVE": "AVAILABLE", "DEGRADED": "BUSY", "OFFLINE": "INACTIVE"}
BLAMELESS = ("expired", "unknown")
REPORTED = "as the agent put it"
BY_HAND = "by_hand"


@dataclass
class Agent:
    agent_id: str
    name: str
    skills: set[str]
    status: str = "REGISTERED"
    fresh: bool = False
    trust: float = 0.5
    completed: int = 0
    failed: int = 0


@dataclass
class Task:
    task_id: str
    client: str
    type: str
    skill: str
    strategy: str
    priority: int
    max_retries: int
    status: str = "PENDING"
    agent: str | None = None
    last_agent: str | None = None
    retries: int = 0
    waiting: bool = False  # for its retry to fall due
    started: bool = False
    slow: bool = False  # this attempt took more than half of the timeout
    reason: str | None = None
    message: str | None = None
    result: bool = False


class Model:
    """The state of everything, and every counter that follows from what happened."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.tasks: dict[str, Task] = {}
        self.counters: dict[str, Counter[Labels]] = {}

    def count(self, family: str, *labels: str) -> None:
        self.counters.setdefault(family, Counter())[labels] += 1

    def by_status(self, *statuses: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.status in statuses]

    # Agents

    def eligible(self, task: Task) -> set[str]:
        """Agents that may be given this task now."""
        return {
            agent.agent_id
            for agent in self.agents.values()
            if agent.status == "AVAILABLE"
            and agent.fresh
            and task.skill in agent.skills
            and (task.strategy != "trust_weighted" or agent.trust >= 0.3)
        }

    def offered(self, skill: str) -> bool:
        return any(skill in agent.skills for agent in self.agents.values())

    def lose(self, agent: Agent) -> None:
        """An agent fell silent, and a sweep noticed."""
        agent.fresh = False
        if agent.status in ("AVAILABLE", "BUSY"):
            agent.status = "INACTIVE"
        for task in self.by_status(*IN_FLIGHT):
            if task.agent == agent.agent_id:
                if task.status == "ACTIVE":
                    self.end_attempt(task, "agent_lost")
                else:
                    task.status, task.agent = "PENDING", None
                    task.slow = False

    # Tasks

    def accept(self, task: Task) -> None:
        self.tasks[task.task_id] = task
        self.count("ains_tasks_created_total", task.type, task.client)

    def assign(self, task: Task, agent_id: str) -> None:
        task.status, task.agent, task.last_agent = "ASSIGNED", agent_id, agent_id
        task.started = task.slow = False
        self.count("ains_task_queue_seconds_count", task.type)

    def report(self, task: Task, agent_id: str, status: str, reason: str | None) -> int:
        """An agent reports; returns the HTTP status that it should get."""
        if task.status in IN_FLIGHT and task.agent == agent_id:
            if status == "COMPLETED":
                task.started, task.reason, task.message, task.result = True, None, None, True
                self.complete(task)
            elif status == "FAILED":
                self.end_attempt(task, reason or "agent_error", reported=True)
            elif task.status == "ASSIGNED":
                task.status, task.started = "ACTIVE", True
            return 200
        if self._repeats(task, agent_id, status, reason):
            return 200
        return 400 if agent_id == (task.agent or task.last_agent) else 403

    def _repeats(self, task: Task, agent_id: str, status: str, reason: str | None) -> bool:
        """Whether the same end was reported before, with the same outcome."""
        if status == "COMPLETED":
            same = task.result and task.message is None
            return task.status == "COMPLETED" and task.agent == agent_id and same
        if status == "FAILED":
            same = task.reason == (reason or "agent_error") and task.message == REPORTED
            ended = task.status == "FAILED" and task.agent == agent_id
            retried = task.status == "PENDING" and task.last_agent == agent_id
            return same and (ended or retried)
        return False

    def complete(self, task: Task) -> None:
        """COMPLETED, by whatever way."""
        agent_id = task.agent or task.last_agent or ""
        task.status, task.waiting = "COMPLETED", False
        self.count("ains_tasks_completed_total", task.type, agent_id)
        self.count("ains_task_duration_seconds_count", task.type, "COMPLETED")
        if agent := self.agents.get(agent_id):
            agent.completed += 1
            self.count("ains_agent_tasks_completed_total", agent_id)
            self.trust(agent, 0.02 if task.slow else 0.05)

    def end_attempt(self, task: Task, reason: str, *, reported: bool = False) -> None:
        """An attempt failed: tried again, or failed for good."""
        if reason == "timeout" and not reported:
            self.count("ains_task_timeouts_total", task.type)
        task.message = REPORTED if reported else f"about {reason}"
        if task.retries < task.max_retries:
            task.retries += 1
            task.status, task.agent, task.waiting = "PENDING", None, True
            task.started = task.slow = False
            task.reason = reason
            self.count("ains_task_retries_total", task.type, str(task.retries))
            return
        # Reported straight from ASSIGNED it counts as started; timed out or lost there it does not.
        task.started = task.started or reported
        self.fail(task, reason)

    def fail(self, task: Task, reason: str) -> None:
        """FAILED for good, by whatever way."""
        # A waiting task keeps the reason of its last attempt: the same again says nothing new.
        code = "unknown" if task.status == "PENDING" and reason == task.reason else reason
        blamed = task.status in IN_FLIGHT or code not in BLAMELESS
        task.status, task.waiting, task.reason = "FAILED", False, reason
        self.count("ains_tasks_failed_total", task.type, code)
        if task.started:
            self.count("ains_task_duration_seconds_count", task.type, "FAILED")
        culprit = task.agent or task.last_agent
        if culprit is None:
            return
        self.count("ains_agent_tasks_failed_total", culprit)
        if agent := self.agents.get(culprit):
            agent.failed += 1
            if blamed:
                self.trust(agent, -0.05)

    def expire(self, task: Task) -> None:
        """Nobody took it in time."""
        self.fail(task, "expired")
        task.message = "about expired"

    def cancel(self, task: Task) -> None:
        task.status, task.waiting = "CANCELLED", False
        self.count("ains_tasks_cancelled_total", task.type)

    def reopen(self, task: Task) -> None:
        """A FAILED task is retried by hand."""
        self.count("ains_tasks_reopened_total", task.type)
        task.retries += 1
        self.count("ains_task_retries_total", task.type, str(task.retries))
        task.status, task.agent, task.waiting = "PENDING", None, True
        task.started = task.slow = False

    def overwrite(self, task: Task, status: str) -> None:
        """Somebody writes an end state with SQL: an ended task is reopened first."""
        if task.status == status:
            return
        if task.status in ENDED:
            self.count("ains_tasks_reopened_total", task.type)
        if status == "COMPLETED":
            self.complete(task)
        elif status == "FAILED":
            self.fail(task, BY_HAND)
        else:
            self.cancel(task)

    def delete(self, task: Task) -> None:
        if task.status in LIVE:
            self.count("ains_tasks_cancelled_total", task.type)
        del self.tasks[task.task_id]

    def trust(self, agent: Agent, delta: float) -> None:
        agent.trust = round(min(1.0, max(0.0, agent.trust + delta)), 6)

    # What Prometheus should see

    def expected(self) -> dict[str, dict[Labels, float]]:
        """Every family with its series, zeros of open label sets left out."""
        families: dict[str, dict[Labels, float]] = {
            family: {labels: float(n) for labels, n in counter.items()}
            for family, counter in self.counters.items()
        }
        pending = Counter(task.priority for task in self.by_status("PENDING"))
        statuses = ("REGISTERED", "AVAILABLE", "BUSY", "INACTIVE", "SUSPENDED")
        agents = self.agents.values()
        active = sum(a.status in ("AVAILABLE", "BUSY") and a.fresh for a in agents)
        return families | {
            "ains_tasks_in_queue": {(str(p),): float(pending[p]) for p in range(1, 11)},
            "ains_tasks_in_flight": {(s,): float(len(self.by_status(s))) for s in IN_FLIGHT},
            "ains_tasks_blocked": {(): 0.0},
            "ains_agents_total": {(): float(len(agents))},
            "ains_agents_active": {(): float(active)},
            "ains_agents_by_status": {
                (s,): float(sum(a.status == s for a in agents)) for s in statuses
            },
            "ains_agent_trust_score": {(a.agent_id, a.name): a.trust for a in agents},
        }
