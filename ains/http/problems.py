"""Every error that reaches a client is a problem document (RFC 9457).

https://www.rfc-editor.org/rfc/rfc9457: ``application/problem+json`` with type, title, status and
detail. What AINS did not expect becomes a 500 that says nothing but the request id; the log has it.
"""

import json
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from ains.errors import (
    AinsError,
    BodyTooLarge,
    InternalError,
    Problem,
    RequestError,
)
from ains.http.handler import Wrapper
from ains.http.parse import invalid_input
from ains.logs import Throttle, get_logger

__all__ = ["CLIENT_GONE", "PROBLEM_JSON", "is_gone", "problem_response", "problems"]

PROBLEM_JSON: Final = "application/problem+json"
CLIENT_GONE: Final = 499

log = get_logger(__name__)


def is_gone(request: web.Request) -> bool:
    """Whether the client has closed the connection."""
    transport = request.transport
    return transport is None or transport.is_closing()


def problem_response(error: AinsError) -> web.Response:
    """Return ``error`` as a response."""
    return _response(error.status, error.problem(), error.headers())


def _response(status: int, problem: Problem, headers: dict[str, str]) -> web.Response:
    try:
        body = orjson.dumps(problem)
    except TypeError:  # a lone surrogate in a text; ASCII JSON can spell it
        body = json.dumps(problem).encode()
    return web.Response(body=body, status=status, headers=headers, content_type=PROBLEM_JSON)


def problems() -> Wrapper:
    """Return the wrapper that makes what a handler raises a problem response.

    Redirects become responses too. What a client causes by going away is no error of ours: the
    answer, status 499 as nginx has it, is for the log only. While the database is away every
    request fails alike: one a minute is logged.
    """
    throttle = Throttle()

    def wrap(handler: Handler, _method: str, _endpoint: str) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except AinsError as error:
                if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    _warn(throttle, request, error)
                return problem_response(error)
            except Exception as error:  # noqa: BLE001 - the last place that could catch it
                return _answer(request, error)

        return guarded

    return wrap


def _warn(throttle: Throttle, request: web.Request, error: AinsError) -> None:
    cause = error.__cause__
    alike = throttle.admit((type(error), type(cause)))
    if alike is not None:
        log.warning(
            "request failed",
            method=request.method,
            path=request.path,
            error=type(error).__name__,
            detail=error.detail,
            # The client is not told; whoever is woken by this needs PostgreSQL's own words.
            cause=str(cause or "") or None,
            alike_before=alike,
        )


def _answer(request: web.Request, error: Exception) -> web.StreamResponse:
    if isinstance(error, web.HTTPException):
        return _translate(request, error)
    if isinstance(error, ValidationError):
        return problem_response(invalid_input(error))
    if is_gone(request):
        return web.Response(status=CLIENT_GONE, reason="Client Closed Request")
    if isinstance(error, HttpProcessingError | web.RequestPayloadError | ClientError):
        return problem_response(RequestError("The request's body can't be decoded."))
    log.error("unexpected error", method=request.method, path=request.path, exc_info=error)
    return problem_response(InternalError())


def _translate(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status < HTTPStatus.BAD_REQUEST:
        return web.Response(status=error.status, headers=error.headers, body=error.body)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return problem_response(
            BodyTooLarge(f"The body is larger than the {request.client_max_size} bytes accepted.")
        )
    title = HTTPStatus(error.status).phrase
    return _response(
        error.status,
        {"type": "about:blank", "title": title, "status": error.status, "detail": f"{title}."},
        {},
    )
