"""The state machine: each rule does something to the world and to the model alike."""

from tests.stateful.agent_rules import AgentRules
from tests.stateful.task_rules import TaskRules
from tests.stateful.upkeep_rules import UpkeepRules


class ApiAgainstModel(AgentRules, TaskRules, UpkeepRules):
    """Clients, agents, workers and somebody in psql, all at random."""
