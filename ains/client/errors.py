"""What a call can end with instead of a result.

Every answer of the server that is not a success becomes an `ApiError`: the subclass says which
status it had, the object carries the problem document (RFC 9457,
https://www.rfc-editor.org/rfc/rfc9457). `NoAnswer` is the rest: there was none.
"""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AinsClientError",
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "Conflict",
    "Forbidden",
    "InvalidInput",
    "NoAnswer",
    "NotFound",
    "RateLimited",
    "ServerError",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "error_for",
]


class AinsClientError(Exception):
    """Base of everything that a call of the client raises by itself."""


class NoAnswer(AinsClientError):
    """The server could not be reached, hung up, or did not answer within the timeout.

    ``sent`` is False when the request certainly never arrived; when it is True, nobody knows
    whether the server acted upon it.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswer(AinsClientError):
    """What answered does not speak the contract: something else listens there."""


class ApiError(AinsClientError):
    """The server refused or failed.

    ``status`` is the HTTP status, ``problem`` the whole problem document and ``detail`` its
    sentence for people. ``errors`` lists the wrong places of a request (422), each with ``loc``,
    ``msg`` and ``type``. ``retry_after`` is in seconds, or None when the server named no time.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        self.status = status
        self.problem = dict(problem)
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or self.title or "no detail")
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or ())
        self.retry_after = retry_after
        super().__init__(f"{status}: {self.detail}")


class BadRequest(ApiError):
    """400: a rule of the service forbids it in the present state."""


class Unauthorized(ApiError):
    """401: who sends it is missing or wrong."""


class Forbidden(ApiError):
    """403: this task belongs to another client or agent."""


class NotFound(ApiError):
    """404: nothing has this id."""


class Conflict(ApiError):
    """409: what was to be created exists already."""


class TooLarge(ApiError):
    """413: the body is larger than the server accepts."""


class InvalidInput(ApiError):
    """422: malformed; ``errors`` names every wrong place."""


class RateLimited(ApiError):
    """429: too many requests; nothing was done."""


class ServerError(ApiError):
    """5xx: the server failed."""


class Unavailable(ServerError):
    """503: the database is away or the server is shutting down; trying again later helps."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidInput,
    429: RateLimited,
    503: Unavailable,
}


def error_for(status: int, problem: Mapping[str, Any], retry_after: float | None) -> ApiError:
    """Return the exception for an answer with this status."""
    cls = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)  # noqa: PLR2004 - 5xx
    return cls(status, problem, retry_after)
