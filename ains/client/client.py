"""The client: one object with the calls of the REST contract, by noun."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import TypeAdapter

from ains.client.agents import AgentsApi
from ains.client.chains import ChainsApi, WebhooksApi
from ains.client.models import CleanedUp, Health
from ains.client.tasks import TasksApi
from ains.client.transport import RetryPolicy, Transport

__all__ = ["AinsClient"]

_HEALTH: Final = TypeAdapter(Health)
_CLEANED: Final = TypeAdapter(CleanedUp)


class AinsClient:
    """A connection to one AINS server.

        async with AinsClient("http://localhost:8000") as ains:
            task = await ains.tasks.create(
                "acme", task_type="summary", capability_required="summarize"
            )
            done = await ains.tasks.wait(task.task_id)

    It may be used by any number of coroutines of one event loop at once. Calls raise subclasses of
    `ains.client.AinsClientError`; what is safe to send again is sent again by itself, see
    `RetryPolicy`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        max_connections: int = 100,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``url`` is the server's, without a path; ``timeout`` counts in seconds per attempt."""
        self._transport = Transport(
            url, timeout=timeout, retry=retry, max_connections=max_connections, headers=headers
        )
        self.agents: Final = AgentsApi(self._transport)
        self.tasks: Final = TasksApi(self._transport)
        self.chains: Final = ChainsApi(self._transport)
        self.webhooks: Final = WebhooksApi(self._transport)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__()

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._transport.url

    async def health(self) -> Health:
        """Return who answers there and in which version."""
        return await self._transport.request("GET", "/health", _HEALTH)

    async def cleanup(self, days: int) -> CleanedUp:
        """Delete tasks, chains and webhook deliveries that ended more than ``days`` days ago.

        7 to 365, else `BadRequest`. The first time there may be more than one attempt's timeout
        allows: the server stops then, and another call goes on.
        """
        path = "/ains/maintenance/cleanup"
        return await self._transport.request("POST", path, _CLEANED, query={"days": days})

    async def metrics(self) -> str:
        """Return the server's metrics in Prometheus' text format."""
        return (await self._transport.send("GET", "/metrics")).decode()
