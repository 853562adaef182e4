"""One HTTP request with its timeout, its retries and its errors."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Final, Self, TypeVar

import aiohttp
import orjson
from pydantic import TypeAdapter, ValidationError

from ains.client.errors import ApiError, BadAnswer, NoAnswer, RateLimited, Unavailable, error_for

__all__ = ["RetryPolicy", "Transport"]

_T = TypeVar("_T")

_OK: Final = 200
_ERRORS: Final = 300
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# These fail before a byte of the request is sent.
_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a request is sent again.

    Retried are: requests that never arrived, whatever they ask for; answers with 429, which say
    that nothing was done; and, where sending twice does what sending once does, answers with 503
    and lost connections. The n-th wait is a random part, at least half, of ``first_delay · 2^n``
    seconds, at most ``max_delay``, and never shorter than the answer's Retry-After; a Retry-After
    beyond ``max_delay`` ends it.
    """

    attempts: int = 5
    first_delay: float = 0.1
    max_delay: float = 10.0
    rng: random.Random = field(default_factory=random.Random)

    def delay(self, attempt: int, error: ApiError | NoAnswer) -> float | None:
        """Seconds to wait after the failed attempt of this number (from 0), None to give up."""
        if attempt + 1 >= self.attempts:
            return None
        wanted = getattr(error, "retry_after", None) or 0.0
        if wanted > self.max_delay:
            return None
        backoff = min(self.first_delay * 2.0**attempt, self.max_delay)
        return max(wanted, backoff * self.rng.uniform(0.5, 1.0))


class Transport:
    """Sends requests to one server over a pool of kept connections."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        max_connections: int = 100,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``timeout`` is in seconds for each attempt, ``url`` without a path ends it anyway."""
        self.url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._retry = retry or RetryPolicy()
        self._max_connections = max_connections
        self._headers = {"Accept": "application/json", **(headers or {})}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            timeout=self._timeout,
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        result: TypeAdapter[_T],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotent: bool | None = None,
    ) -> _T:
        """Send a request, again where that is safe, and return its answer as ``result`` says.

        Parameters that are None are left out of ``query``; ``body`` is sent as JSON. Whether it
        may be sent twice follows from the method unless ``idempotent`` says so.

        Raises:
            ApiError: the server refused; a subclass for each status.
            NoAnswer: there was no answer.
            BadAnswer: the answer was not what the contract says.
        """
        data = await self.send(method, path, query=query, body=body, idempotent=idempotent)
        try:
            return result.validate_json(data)
        except ValidationError as error:
            raise BadAnswer(f"{method} {self.url}{path} answered something else: {error}") from None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotent: bool | None = None,
    ) -> bytes:
        """Do what `request` does, and return the bytes of the answer's body."""
        safe = method in _IDEMPOTENT if idempotent is None else idempotent
        parameters = {k: _parameter(v) for k, v in (query or {}).items() if v is not None}
        attempt = 0
        while True:
            try:
                return await self._once(method, path, parameters, body)
            except (RateLimited, Unavailable, NoAnswer) as error:
                nothing_done = isinstance(error, RateLimited) or (
                    isinstance(error, NoAnswer) and not error.sent
                )
                delay = self._retry.delay(attempt, error) if safe or nothing_done else None
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("use the client as `async with AinsClient(url) as ains:`")
        data, headers = None, None
        if body is not None:
            data, headers = orjson.dumps(body), {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self.url + path, params=query, data=data, headers=headers
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            sent = not isinstance(error, _NOT_SENT)
            what = str(error) or type(error).__name__
            raise NoAnswer(f"{method} {self.url}{path}: {what}", sent=sent) from error
        if _OK <= response.status < _ERRORS:
            return answer
        retry_after = _retry_after(response.headers.get("Retry-After"))
        raise error_for(response.status, _problem(answer, response), retry_after)


def _parameter(value: object) -> str:
    """The text of a query parameter; lists are comma-separated."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _problem(answer: bytes, response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    try:
        problem = orjson.loads(answer)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict):
        return problem
    # A proxy in between answers in its own words.
    return {"title": response.reason or "", "detail": answer[:200].decode(errors="replace")}


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After, which may be a number or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
