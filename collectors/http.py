"""HTTP requests as the server saw them: the only families that are counted in the process.

`HttpMetrics` counts in plain integers, `HttpCollector` turns them into families at a scrape. What
counts as what:

- ``endpoint`` is the route's template. A path that no route has is ``unmatched``; a known path with
  a method that it does not know is its template, with status 405. ``/metrics`` is not counted.
- ``method`` is one of the methods of RFC 9110 and PATCH, else ``OTHER``; so all labels are bounded.
- The duration ends when the response is ready to be sent. A handler that streams its response sends
  it meanwhile, so there the sending is part of the duration.
- A handler that raises counts as 500; a client that goes away before the response is ready as 499,
  whether aiohttp cancels the handler or lets it finish. What is not HTTP at all is refused before
  any of this and counted nowhere.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors.base import Family, Row
from collectors.notation import Memory
from collectors.rowmetric import RowMetric

__all__ = ["BUCKETS", "HttpCollector", "HttpMetrics"]

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
OTHER: Final = "OTHER"
CLIENT_GONE: Final = 499  # nginx's code for it; RFC 9110 has none

_REQUESTS: Final = Family(
    "ains_http_requests_total",
    "counter",
    "HTTP requests finished",
    ("method", "endpoint", "status_code"),
)
_DURATION: Final = Family(
    "ains_http_request_duration_seconds",
    "histogram",
    "Time from a request's arrival until its response was ready to be sent",
    ("method", "endpoint"),
    BUCKETS,
)
_IN_PROGRESS: Final = Family(
    "ains_http_requests_in_progress",
    "gauge",
    "HTTP requests being handled now",
    ("method", "endpoint"),
)


class _Series:
    """The counts of one method and endpoint."""

    __slots__ = ("buckets", "in_progress", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.in_progress = 0


class HttpMetrics:
    """Counts the requests of one application: `wrap` goes around the handler of every route.

    A single event loop counts and reads, so a scrape sees every family at the same moment.
    """

    def __init__(
        self,
        exclude: Collection[str] = ("/metrics",),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``exclude`` are the endpoints that are not counted; ``clock`` gives seconds."""
        self._exclude = frozenset(exclude)
        self._clock = clock
        self._series: dict[tuple[str, str], _Series] = {}

    def items(self) -> Iterator[tuple[tuple[str, str], _Series]]:
        """Yield ``((method, endpoint), counts)`` of all that was asked for yet, in order."""
        return iter(sorted(self._series.items(), key=lambda item: item[0]))

    def _of(self, method: str, endpoint: str) -> _Series:
        key = (method if method in METHODS else OTHER, endpoint)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = _Series()
        return found

    def wrap(self, handler: Handler, method: str, endpoint: str) -> Handler:
        """Return ``handler``, counted.

        ``endpoint`` is its route's template, or ``unmatched``; with the method ``*`` every
        request's own counts.
        """
        if endpoint in self._exclude:
            return handler
        clock = self._clock
        series_of = self._of
        known: _Series | None = None

        async def counted(request: web.Request) -> web.StreamResponse:
            nonlocal known
            series = known
            if series is None:
                series = series_of(request.method, endpoint)
                if method != "*":
                    known = series
            series.in_progress += 1
            status = 500
            start = clock()
            try:
                response = await handler(request)
                status = response.status
                return response
            except web.HTTPException as answer:
                status = answer.status
                raise
            except asyncio.CancelledError:
                status = CLIENT_GONE
                raise
            finally:
                seconds = clock() - start
                transport = request.transport
                if transport is None or transport.is_closing():
                    status = CLIENT_GONE
                series.in_progress -= 1
                series.statuses[status] = series.statuses.get(status, 0) + 1
                series.buckets[bisect_left(BUCKETS, seconds)] += 1
                series.seconds += seconds

        return counted


class HttpCollector(Collector):
    """Shows what `HttpMetrics` counted as the three HTTP families."""

    def __init__(self, metrics: HttpMetrics) -> None:
        """``metrics`` is the application's own."""
        self._metrics = metrics
        self._written = Memory(_DURATION)

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples; ``name[]`` finds them by these."""
        yield from map(RowMetric, (_REQUESTS, _DURATION, _IN_PROGRESS))

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the counts of this moment."""
        requests: list[Row] = []
        durations: list[Row] = []
        in_progress: list[Row] = []
        for labels, series in self._metrics.items():
            requests += [
                ((*labels, str(status)), count, None)
                for status, count in sorted(series.statuses.items())
            ]
            if any(series.buckets):
                durations.append((labels, tuple(series.buckets), series.seconds, None, ()))
            in_progress.append((labels, series.in_progress, None))
        yield RowMetric(_REQUESTS, [requests])
        yield RowMetric(_DURATION, [durations], memory=self._written)
        yield RowMetric(_IN_PROGRESS, [in_progress])
