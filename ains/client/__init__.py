"""A typed async client of the AINS REST API; it needs nothing of the server.

    async with AinsClient("http://localhost:8000") as ains:
        agent = await ains.agents.register("scout-1", endpoint="http://scout.example")
        task = await ains.tasks.create(
            "acme", task_type="summary", capability_required="summarize", priority=8
        )
        print(await ains.tasks.wait(task.task_id))

`AgentWorker` is the other side: an agent that does such tasks.
"""

from ains.client.client import AinsClient
from ains.client.errors import (
    AinsClientError,
    ApiError,
    BadAnswer,
    BadRequest,
    Conflict,
    Forbidden,
    InvalidInput,
    NoAnswer,
    NotFound,
    RateLimited,
    ServerError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from ains.client.identity import Identity
from ains.client.models import (
    Agent,
    AgentStatus,
    CreatedTask,
    ListedTask,
    Page,
    Task,
    TaskStatus,
)
from ains.client.tasks import NewTask, SubmittedTask, TaskFields
from ains.client.transport import RetryPolicy
from ains.client.worker import AgentWorker, Assignment, Handler, TaskFailed

__all__ = [
    "Agent",
    "AgentStatus",
    "AgentWorker",
    "AinsClient",
    "AinsClientError",
    "ApiError",
    "Assignment",
    "BadAnswer",
    "BadRequest",
    "Conflict",
    "CreatedTask",
    "Forbidden",
    "Handler",
    "Identity",
    "InvalidInput",
    "ListedTask",
    "NewTask",
    "NoAnswer",
    "NotFound",
    "Page",
    "RateLimited",
    "RetryPolicy",
    "ServerError",
    "SubmittedTask",
    "Task",
    "TaskFailed",
    "TaskFields",
    "TaskStatus",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]
