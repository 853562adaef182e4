"""Rules about agents: they come, live, fall silent, and are trusted."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from ains.db import sweeps
from tests.stateful.base import SKILLS, TTL, Machine
from tests.stateful.model import IN_FLIGHT, STATUS_OF_HEALTH, Agent


class AgentRules(Machine):
    """What agents do."""

    @initialize()
    def register_some(self) -> None:
        """Two clients that do nothing else, and two agents that can do something."""
        for client in self.clients:
            self._register(client, [])
        for skills in (["sum"], ["sum", "draw"]):
            self._heartbeat(self._register(f"{self.run}-agent-{len(skills)}", skills), "ACTIVE")

    @precondition(lambda self: len(self.model.agents) < 6)
    @rule(skills=st.sets(st.sampled_from(SKILLS[:4]), min_size=1), health=st.booleans())
    def register_agent(self, skills: set[str], health: bool) -> None:
        number = len(self.model.agents)
        agent = self._register(f"{self.run}-agent-{number}", sorted(skills))
        if health:
            self._heartbeat(agent, "ACTIVE")

    def _register(self, agent_id: str, tags: list[str]) -> Agent:
        agent = Agent(agent_id, f"Agent {agent_id}", set(tags))
        body = {
            "agent_id": agent_id,
            "public_key": "00",
            "display_name": agent.name,
            "endpoint": "http://localhost",
            "signature": "00",
            "tags": tags,
        }
        assert self.world.ok("POST", "/ains/agents", body)["status"] == "REGISTERED"
        assert self.world.call("POST", "/ains/agents", body)[0] == 409
        self.model.agents[agent_id] = agent
        return agent

    @rule(data=st.data(), skill=st.sampled_from(SKILLS))
    def publish_capability(self, data: st.DataObject, skill: str) -> None:
        agent = self.pick(data, list(self.model.agents.values()))
        body = {
            "name": skill.upper(),
            "description": "",
            "input_schema": {},
            "output_schema": {},
            "pricing_model": "free",
            "price": 0,
            "latency_p99_ms": 1,
            "availability_percent": 100,
            "signature": "00",
        }
        self.world.ok("POST", f"/ains/agents/{agent.agent_id}/capabilities", body)
        agent.skills.add(skill)

    @rule(data=st.data(), health=st.sampled_from(("ACTIVE",) * 4 + ("DEGRADED", "OFFLINE")))
    def heartbeat(self, data: st.DataObject, health: str) -> None:
        self._heartbeat(self.pick(data, list(self.model.agents.values())), health)

    def _heartbeat(self, agent: Agent, health: str) -> None:
        body = {"timestamp": 1, "status": health, "uptime_ms": 1}
        answer = self.world.ok("POST", f"/ains/agents/{agent.agent_id}/heartbeat", body)
        agent.status, agent.fresh = STATUS_OF_HEALTH[health], True
        assert answer["agent_status"] == agent.status

    @rule(data=st.data(), delta=st.sampled_from((-0.4, 0.1, 0.7)))
    def adjust_trust(self, data: st.DataObject, delta: float) -> None:
        agent = self.pick(data, list(self.model.agents.values()))
        body = {"trust_delta": delta, "reason": "because"}
        answer = self.world.ok("POST", f"/ains/agents/{agent.agent_id}/trust/adjust", body)
        self.model.trust(agent, delta)
        assert abs(answer["new_trust_score"] - agent.trust) < 1e-6

    @precondition(lambda self: any(agent.fresh for agent in self.model.agents.values()))
    @rule(data=st.data())
    def agent_falls_silent(self, data: st.DataObject) -> None:
        """Its last heartbeat is a day old, and the sweep comes by."""
        agent = self.pick(data, [a for a in self.model.agents.values() if a.fresh])
        self.world.sql(
            "UPDATE agents SET last_heartbeat = now() - interval '1 day' WHERE agent_id = $1",
            agent.agent_id,
        )
        held = [t for t in self.model.by_status(*IN_FLIGHT) if t.agent == agent.agent_id]
        active = sum(task.status == "ACTIVE" for task in held)
        was_live = agent.status in ("AVAILABLE", "BUSY")
        self.model.lose(agent)
        lost = self.world.wait(sweeps.lose_agents(self.world.pool, TTL))
        assert lost == ([agent.agent_id] if was_live else [])
        assert self.world.wait(sweeps.recover_tasks(self.world.pool, TTL)) == (
            len(held) - active,
            active,
        )
