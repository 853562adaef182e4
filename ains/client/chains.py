"""Calls about chains of tasks, and about the webhooks that tell of them."""

from asyncio import sleep
from asyncio import timeout as deadline
from collections.abc import Iterable, Mapping
from typing import Any, Final, Required, TypedDict
from urllib.parse import quote

from pydantic import TypeAdapter

from ains.client.models.chains import Chain, ChainStatus, ChainSummary, Webhook
from ains.client.transport import Transport

__all__ = ["ChainStep", "ChainsApi", "WebhooksApi"]

_SUMMARY: Final = TypeAdapter(ChainSummary)
_SUMMARIES: Final = TypeAdapter(tuple[ChainSummary, ...])
_CHAIN: Final = TypeAdapter(Chain)
_WEBHOOK: Final = TypeAdapter(Webhook)
_ANYTHING: Final = TypeAdapter(dict[str, Any])
_LIVE: Final = frozenset({ChainStatus.PENDING, ChainStatus.RUNNING})


class ChainStep(TypedDict, total=False):
    """One step of a chain.

    With ``use_previous_output`` it finds the result of the step before in its input, as
    ``previous_output``.
    """

    name: str
    task_type: Required[str]
    capability_required: Required[str]
    input_data: Mapping[str, Any]
    priority: int
    timeout_seconds: int
    max_retries: int
    use_previous_output: bool


class ChainsApi:
    """``ains.chains``: the calls below ``/ains/task-chains``."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def submit(self, name: str, client_id: str, steps: Iterable[ChainStep]) -> ChainSummary:
        """Submit a chain; its steps run one after the other."""
        body = {"name": name, "client_id": client_id, "steps": list(steps)}
        return await self._http.request("POST", "/ains/task-chains", _SUMMARY, body=body)

    async def get(self, chain_id: str) -> Chain:
        """Return a chain with its steps; raises `NotFound`."""
        return await self._http.request("GET", _chain(chain_id), _CHAIN)

    async def list(
        self,
        *,
        client_id: str | None = None,
        status: ChainStatus | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[ChainSummary, ...]:
        """Return chains, newest first."""
        query = {"client_id": client_id, "status": status, "limit": limit, "offset": offset}
        return await self._http.request("GET", "/ains/task-chains", _SUMMARIES, query=query)

    async def cancel(self, chain_id: str) -> None:
        """Cancel a chain and its task; raises `BadRequest` when it has ended."""
        await self._http.request("POST", f"{_chain(chain_id)}/cancel", _ANYTHING)

    async def wait(self, chain_id: str, *, timeout: float = 60.0, poll: float = 0.25) -> Chain:
        """Return the chain when it has ended; raises `TimeoutError` after ``timeout`` seconds."""
        async with deadline(timeout):
            while True:
                chain = await self.get(chain_id)
                if chain.status not in _LIVE:
                    return chain
                await sleep(poll)


class WebhooksApi:
    """``ains.webhooks``: the calls below ``/ains/webhooks``."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def register(
        self, agent_id: str, url: str, events: Iterable[str], *, secret: str | None = None
    ) -> Webhook:
        """Subscribe to events of the tasks and chains of ``agent_id``; keep the ``secret``."""
        body: dict[str, Any] = {"agent_id": agent_id, "url": url, "events": list(events)}
        if secret is not None:
            body["secret"] = secret
        return await self._http.request("POST", "/ains/webhooks", _WEBHOOK, body=body)

    async def get(self, webhook_id: str) -> Webhook:
        """Return a subscription; raises `NotFound`."""
        return await self._http.request("GET", _webhook(webhook_id), _WEBHOOK)

    async def deactivate(self, webhook_id: str, agent_id: str) -> None:
        """End a subscription."""
        query = {"agent_id": agent_id}
        await self._http.request("DELETE", _webhook(webhook_id), _ANYTHING, query=query)

    async def deliveries(self, webhook_id: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Return the newest deliveries."""
        path = f"{_webhook(webhook_id)}/deliveries"
        found = await self._http.request("GET", path, _ANYTHING, query={"limit": limit})
        return list(found["deliveries"])


def _chain(chain_id: str) -> str:
    return f"/ains/task-chains/{quote(chain_id, safe='')}"


def _webhook(webhook_id: str) -> str:
    return f"/ains/webhooks/{quote(webhook_id, safe='')}"
