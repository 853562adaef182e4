"""Everything that can go wrong, as one exception tree.

Each class carries what HTTP says about it: a status, a title and the last part of its problem type
(RFC 9457, https://www.rfc-editor.org/rfc/rfc9457). Its docstring is the page that
``/docs/problems/<slug>`` shows; the docstring's first paragraph is the default ``detail``.
The layers below ``ains.http`` raise these and know nothing else of HTTP.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

from typing_extensions import TypedDict

__all__ = [
    "AinsError",
    "BodyTooLarge",
    "BusinessRule",
    "Conflict",
    "DatabaseUnavailable",
    "FieldError",
    "Forbidden",
    "InternalError",
    "InvalidInput",
    "InvalidProblem",
    "MethodNotAllowed",
    "NotFound",
    "Problem",
    "RateLimited",
    "RequestError",
    "RequestTimeout",
    "SchemaTooNew",
    "ServerTooOld",
    "SettingsError",
    "ShuttingDown",
    "Unauthorized",
    "problem_types",
    "quote",
]


class FieldError(TypedDict):
    """One wrong place of a request.

    ``loc`` leads to it from the part of the request: ``["body", "tasks", 3, "priority"]``,
    ``["query", "limit"]``. ``type`` is a stable code such as ``missing`` or ``int_type``.
    """

    loc: list[str | int]
    msg: str
    type: str


class Problem(TypedDict):
    """The body of every error response: ``application/problem+json`` of RFC 9457.

    ``type`` is the path of a page that explains it, ``detail`` a sentence about this occurrence.
    """

    type: str
    title: str
    status: int
    detail: str


class InvalidProblem(Problem):
    """The body of a response with status 422: ``errors`` lists every wrong place."""

    errors: list[FieldError]


def quote(value: str, limit: int = 80) -> str:
    """Return ``value`` in quotes for a sentence: printable, and cut to ``limit`` characters."""
    shown = value if len(value) <= limit else f"{value[:limit]}…"
    return repr(shown)


class AinsError(Exception):
    """Something failed inside AINS.

    The request may be fine. The server's log has the cause, under the request id that came with
    the response.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    slug: ClassVar[str] = "internal-error"

    def __init__(self, detail: str | None = None) -> None:
        """``detail`` is a sentence for a person; without one, the class's own is used."""
        self.detail = detail or self.summary()
        super().__init__(self.detail)

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of the class's docstring, on one line."""
        return " ".join((inspect.getdoc(cls) or cls.title).split("\n\n")[0].split())

    @classmethod
    def type_uri(cls) -> str:
        """The problem type: the full path of the page that explains it."""
        return f"/docs/problems/{cls.slug}"

    def headers(self) -> dict[str, str]:
        """Header fields that belong to the response."""
        return {}

    def problem(self) -> Problem:
        """The response's body."""
        return {
            "type": self.type_uri(),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }


class InternalError(AinsError):
    """The server made a mistake; the request may be fine.

    The server's log has the cause, under the request id that came with the response. Please report
    it.
    """


class RequestError(AinsError):
    """The request can't be understood."""

    status = 400
    title = "Bad request"
    slug = "bad-request"


class RequestTimeout(AinsError):
    """The request's body took too long to arrive."""

    status = 408
    title = "Request timeout"
    slug = "request-timeout"


class BusinessRule(AinsError):
    """A rule of the service forbids this.

    The request is well-formed, but what it asks for is not allowed in the present state: a task
    that has ended can't be cancelled, for example. ``detail`` names the rule.
    """

    status = 400
    title = "Not possible"
    slug = "business-rule"


class Unauthorized(AinsError):
    """The request says nothing about who sends it, or something wrong."""

    status = 401
    title = "Not authenticated"
    slug = "unauthorized"


class Forbidden(AinsError):
    """This client may not do that.

    A task belongs to the client that created it and is reported on by the agent it is assigned to;
    nobody else may change it.
    """

    status = 403
    title = "Not allowed"
    slug = "forbidden"


class NotFound(AinsError):
    """There is nothing at this address.

    Either no route has this path, or nothing has the id that the path names.
    """

    status = 404
    title = "Not found"
    slug = "not-found"

    @classmethod
    def of(cls, noun: str, identifier: object) -> Self:
        """The error for an unknown id: ``NotFound.of("task", task_id)``."""
        return cls(f"No {noun} has the id {quote(str(identifier))}.")


class MethodNotAllowed(AinsError):
    """This address does not know the method.

    The ``Allow`` header lists the methods that it knows.
    """

    status = 405
    title = "Method not allowed"
    slug = "method-not-allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """``allowed`` are the methods of the address."""
        self.allowed = sorted(allowed)
        super().__init__(
            f"The method {quote(method, 20)} is not allowed here, "
            f"only {', '.join(self.allowed) or 'none'}."
        )

    def headers(self) -> dict[str, str]:
        """``Allow``, which RFC 9110 requires of a 405."""
        return {"Allow": ", ".join(self.allowed)}


class Conflict(AinsError):
    """What the request would create exists already."""

    status = 409
    title = "Conflict"
    slug = "conflict"


class BodyTooLarge(AinsError):
    """The request's body is larger than this server accepts.

    The limit is the setting ``AINS_MAX_BODY_BYTES``; it holds for the body after decompression.
    """

    status = 413
    title = "Body too large"
    slug = "body-too-large"


class InvalidInput(AinsError):
    """The request is malformed: a field is missing, or has a wrong type or value.

    ``errors`` lists every wrong place as ``{loc, msg, type}``; ``loc`` is the way to it, beginning
    with ``body``, ``query`` or ``path``.
    """

    status = 422
    title = "Invalid input"
    slug = "invalid-input"

    def __init__(self, detail: str | None = None, errors: Sequence[FieldError] = ()) -> None:
        """``errors`` may be empty when no single place is to blame."""
        self.errors = list(errors)
        super().__init__(detail)

    @classmethod
    def at(cls, loc: Sequence[str | int], msg: str, code: str = "value_error") -> Self:
        """The error for one wrong place: ``InvalidInput.at(["query", "limit"], "must be …")``."""
        where = ".".join(map(str, loc))
        return cls(f"{where}: {msg}", [{"loc": list(loc), "msg": msg, "type": code}])

    def problem(self) -> InvalidProblem:
        """The response's body, with ``errors``."""
        return {**super().problem(), "errors": self.errors}


class RetryLater(AinsError):
    """The request can't be served now, but may be in a moment.

    Send it again after the number of seconds in the ``Retry-After`` header.
    """

    status = 503
    title = "Try again later"
    slug = "retry-later"
    default_retry_after: ClassVar[float] = 1.0

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        """``retry_after`` is in seconds; the header, which has whole seconds, rounds it up."""
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        super().__init__(detail)

    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, at least 1."""
        return {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


class RateLimited(RetryLater):
    """This client sent too many requests in too short a time."""

    status = 429
    title = "Too many requests"
    slug = "rate-limited"


class DatabaseUnavailable(RetryLater):
    """The database can't be reached just now.

    Nothing was changed, or nobody knows whether it was: the connection may have broken after the
    statement had been sent. AINS reconnects by itself.
    """

    title = "Database unavailable"
    slug = "database-unavailable"


class ShuttingDown(RetryLater):
    """The server is shutting down and takes no new work."""

    title = "Shutting down"
    slug = "shutting-down"


class SettingsError(AinsError):
    """The configuration can't be used.

    The message names every wrong setting at once.
    """

    title = "Wrong configuration"
    slug = "wrong-configuration"


class SchemaTooNew(SettingsError):
    """The database belongs to a newer version of AINS."""


class ServerTooOld(SettingsError):
    """The database server is of a version that AINS can't use."""


def problem_types() -> Iterator[type[AinsError]]:
    """Yield every class of the tree that a response may carry, each slug once."""
    seen: set[str] = set()
    pending = AinsError.__subclasses__()
    while pending:
        cls = pending.pop(0)
        if issubclass(cls, SettingsError):
            continue
        pending += cls.__subclasses__()
        if cls.slug not in seen:
            seen.add(cls.slug)
            yield cls
