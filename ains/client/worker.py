"""An agent in ten lines: `AgentWorker` does everything but the work.

from ains.client import AgentWorker, Assignment

async def summarize(task: Assignment) -> dict[str, object]:
    return {"summary": task.input_data["text"][:100]}

AgentWorker.serve("http://localhost:8000", "summarizer-1", {"summarize": summarize})
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias, Unpack

import orjson

from ains.client.agents import AgentDetails
from ains.client.client import AinsClient
from ains.client.errors import (
    AinsClientError,
    ApiError,
    Conflict,
    NotFound,
    RateLimited,
    ServerError,
)
from ains.client.identity import Identity
from ains.client.models import ListedTask, TaskStatus, Updated

__all__ = ["AgentWorker", "Assignment", "Handler", "TaskFailed"]

Assignment: TypeAlias = ListedTask
"""A task as a handler gets it: ``task_id``, ``task_type``, ``input_data`` …"""

Handler: TypeAlias = Callable[[Assignment], Awaitable[Any]]
"""Does a task and returns its result, which has to be JSON."""

_log: Final = logging.getLogger(__name__)
_PAGE: Final = 100
_TROUBLE_SECONDS: Final = 1.0


class TaskFailed(Exception):
    """Raised by a handler: this attempt failed.

    ``reason`` is a code (``[a-z][a-z0-9_]{0,39}``) and becomes a metric's label; ``message`` is for
    people. Whether the task is tried again is for its retries to say.
    """

    def __init__(self, reason: str = "agent_error", message: str | None = None) -> None:
        self.reason = reason
        self.message = message
        super().__init__(f"{reason}: {message}" if message else reason)


class AgentWorker:
    """Registers an agent, keeps it alive, and runs the tasks that it is assigned.

    A handler that raises `TaskFailed` fails the attempt with that code, any other exception with
    ``agent_error`` and the exception as message. The server being away is waited out, a result that
    is ready is reported when it is back. A report that the server refuses, since the task was
    cancelled or took too long, is dropped.
    """

    def __init__(
        self,
        client: AinsClient,
        agent_id: str,
        handlers: Mapping[str, Handler],
        *,
        concurrency: int = 4,
        poll_interval: float = 0.5,
        grace: float = 25.0,
        **details: Unpack[AgentDetails],
    ) -> None:
        """``handlers`` says what the agent can do: one handler for each capability or tag.

        Every key that is not among ``tags`` is published as a capability. At most ``concurrency``
        handlers run at once; new tasks are looked for every ``poll_interval`` seconds; `stop` gives
        running and assigned tasks ``grace`` seconds. The rest is for `AgentsApi.register`.
        """
        self.agent_id = agent_id
        self.status = "ACTIVE"
        self._ains = client
        self._handlers = {name.lower(): handler for name, handler in handlers.items()}
        tags = details["tags"] = tuple(details.get("tags", ()))
        self._capabilities = [name for name in handlers if name not in tags]
        self._concurrency = concurrency
        self._poll_interval = poll_interval
        self._grace = grace
        self._details = details
        self._identity = details.setdefault("identity", Identity.generate())
        self._running: dict[str, asyncio.Task[None]] = {}
        self._look_now = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._stopping = False
        self._born = monotonic()

    @classmethod
    def serve(
        cls, url: str, agent_id: str, handlers: Mapping[str, Handler], **options: Any
    ) -> None:
        """Run an agent as a program of its own until SIGINT or SIGTERM ends it gracefully."""

        async def main() -> None:
            async with AinsClient(url) as client:
                worker = cls(client, agent_id, handlers, **options)
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, worker.stop)
                await worker.run()

        asyncio.run(main())

    def stop(self) -> None:
        """Take no new work, finish what was assigned, sign off; `run` then returns."""
        self._stopping = True
        self._look_now.set()
        self.set_status("DEGRADED")

    def set_status(self, status: str) -> None:
        """Send this health from now on: ACTIVE, DEGRADED (gets no new work) or OFFLINE."""
        self.status = status
        self._beat_now.set()

    async def run(self) -> None:
        """Work until `stop`; being cancelled instead drops everything where it stands.

        Raises `ApiError` when the server refuses the agent itself.
        """
        await self._sign_on()
        async with asyncio.TaskGroup() as group:
            heart = group.create_task(self._beat(), name=f"{self.agent_id} heartbeat")
            await self._work(group)
            heart.cancel()
        with suppress(AinsClientError):
            await self._ains.agents.heartbeat(self.agent_id, "OFFLINE", uptime_ms=self._uptime())

    # Being alive

    async def _sign_on(self) -> None:
        while True:
            try:
                with suppress(Conflict):  # an earlier life registered already
                    await self._ains.agents.register(self.agent_id, **self._details)
                for name in self._capabilities:
                    await self._ains.agents.publish_capability(
                        self.agent_id, name, identity=self._identity
                    )
                return
            except AinsClientError as error:
                if _is_final(error):
                    raise
                _log.warning("%s can't register yet: %s", self.agent_id, error)
                await asyncio.sleep(_TROUBLE_SECONDS)

    async def _beat(self) -> None:
        while True:
            self._beat_now.clear()
            try:
                answer = await self._ains.agents.heartbeat(
                    self.agent_id, self.status, uptime_ms=self._uptime()
                )
                pause = answer.next_heartbeat_in
                await self._drop_lost()
            except NotFound:  # somebody deleted the agent, or the whole database
                await self._sign_on()
                continue
            except AinsClientError as error:
                _log.warning("%s could not send a heartbeat: %s", self.agent_id, error)
                pause = _TROUBLE_SECONDS
            await _wait(self._beat_now, pause)

    async def _drop_lost(self) -> None:
        """Stop handlers of tasks that ended without them: cancelled, or out of time."""
        if not self._running:
            return
        for task in (await self._ains.tasks.batch_status(list(self._running)[:_PAGE])).tasks:
            running = self._running.get(task.task_id)
            if running is not None and task.status not in {TaskStatus.ASSIGNED, TaskStatus.ACTIVE}:
                running.cancel()

    # Working

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Look for tasks and start their handlers until stopped, then until all are done."""
        give_up = None
        while True:
            self._look_now.clear()
            if self._stopping and give_up is None:
                give_up = monotonic() + self._grace
            waiting = await self._assigned()
            for task in waiting[: self._concurrency - len(self._running)]:
                running = group.create_task(self._run(task), name=f"{self.agent_id} handler")
                self._running[task.task_id] = running
                running.add_done_callback(partial(self._done, task.task_id))
            if give_up is not None:
                if not waiting and not self._running:
                    return
                if monotonic() > give_up:
                    for running in self._running.values():
                        running.cancel()
                    return
            await _wait(self._look_now, self._poll_interval)

    def _done(self, task_id: str, _: asyncio.Task[None]) -> None:
        full = len(self._running) >= self._concurrency
        del self._running[task_id]
        if full or self._stopping:  # there may be more to do than was looked at
            self._look_now.set()

    async def _assigned(self) -> list[Assignment]:
        """Return tasks that wait for this agent, most urgent first; none when it has no hands."""
        if len(self._running) >= self._concurrency:
            return []
        try:
            waiting = [
                task
                async for task in self._ains.tasks.iterate(
                    status=TaskStatus.ASSIGNED, assigned_agent_id=self.agent_id, page_size=_PAGE
                )
                if task.task_id not in self._running
            ]
        except AinsClientError as error:
            _log.warning("%s can't ask for work: %s", self.agent_id, error)
            await asyncio.sleep(_TROUBLE_SECONDS)
            return []
        waiting.sort(key=lambda task: (-task.priority, task.created_at))
        return waiting

    async def _run(self, task: Assignment) -> None:
        tasks = self._ains.tasks
        if not await self._report(partial(tasks.start, task.task_id, self.agent_id)):
            return
        fail = partial(tasks.fail, task.task_id, self.agent_id)
        try:
            result = await self._handle(task)
            await self._report(partial(tasks.complete, task.task_id, self.agent_id, result))
        except TaskFailed as failed:
            await self._report(
                partial(fail, failure_reason=failed.reason, error_message=failed.message)
            )
        except asyncio.CancelledError:
            if self._stopping:
                with suppress(AinsClientError, TimeoutError):
                    async with asyncio.timeout(_TROUBLE_SECONDS):
                        await fail(failure_reason="agent_stopped")
            raise

    async def _handle(self, task: Assignment) -> Any:
        """Return the handler's result as JSON; raises `TaskFailed` for whatever goes wrong."""
        handler = self._handlers.get(task.capability_required.lower())
        if handler is None:
            raise TaskFailed("no_handler", f"no handler for {task.capability_required}")
        try:
            result = await handler(task)
            orjson.dumps(result)
        except TaskFailed:
            raise
        except Exception as error:
            _log.exception("%s failed at task %s", self.agent_id, task.task_id)
            raise TaskFailed(message=f"{type(error).__name__}: {error}") from error
        return result

    async def _report(self, send: Callable[[], Awaitable[Updated]]) -> bool:
        """Send a report until it is answered; False when the server refuses it."""
        while True:
            try:
                await send()
                return True
            except AinsClientError as error:
                if _is_final(error):
                    _log.info("%s: a report was refused: %s", self.agent_id, error)
                    return False
                _log.warning("%s: a report has to wait: %s", self.agent_id, error)
            await asyncio.sleep(_TROUBLE_SECONDS)

    def _uptime(self) -> int:
        return round((monotonic() - self._born) * 1000)


def _is_final(error: AinsClientError) -> bool:
    """Whether sending the same again is pointless."""
    return isinstance(error, ApiError) and not isinstance(error, ServerError | RateLimited)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
