"""Answers a scrape over HTTP: which format, which families, compressed or not.

Accept is negotiated as RFC 9110 says, with the media types of the Prometheus exposition formats;
what can't be understood in it is passed over. A large answer is rendered in slices, so that the
event loop goes on serving, and compressed in a thread.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from collectors.base import RowMetric, Rows
from collectors.reader import Pauses

if TYPE_CHECKING:
    from collectors.scrape import Scraper, Snapshot

__all__ = ["Format", "exposition", "metrics_handler", "negotiate", "render", "time_limit"]

_EOF: Final = "# EOF\n"
_GZIP_LEVEL: Final = 1
_GZIP_FROM: Final = 1024
_SLICE_LINES: Final = 50
_MARGIN_SECONDS: Final = 0.5
_LEAST_SECONDS: Final = 0.05


class Format(NamedTuple):
    """An exposition format."""

    content_type: str
    openmetrics: bool


TEXT: Final = Format("text/plain; version=0.0.4; charset=utf-8", False)
OPENMETRICS: Final = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", True)


def _parts(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield media type, parameters and weight of each element of an Accept header."""
    for element in header.split(","):
        media, *rest = (part.strip() for part in element.split(";"))
        parameters: dict[str, str] = {}
        for part in rest:
            name, _, value = part.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            continue
        if 0 <= weight <= 1:
            yield media.lower(), parameters, weight


def negotiate(accept: str | None) -> Format:
    """Choose the format; text, which every scraper reads, when nothing else is asked for."""
    best, best_weight = TEXT, 0.0
    for media, parameters, weight in _parts(accept or ""):
        version = parameters.get("version")
        found = None
        if media == "application/openmetrics-text" and version in {None, "1.0.0", "0.0.1"}:
            found = OPENMETRICS
        elif (media == "text/plain" and version in {None, "0.0.4"}) or media in {"*/*", "text/*"}:
            found = TEXT
        if found is not None and weight > best_weight:
            best, best_weight = found, weight
    return best


def _accepts_gzip(header: str | None) -> bool:
    for coding, _, weight in _parts(header or ""):
        if coding in {"gzip", "*"}:
            return weight > 0
    return False


def time_limit(header: str | None, default: float) -> float:
    """Seconds that a scrape may take: what Prometheus grants, less the time to answer in.

    A limit that is no positive number is passed over.
    """
    try:
        granted = float(header) if header is not None else default
    except ValueError:
        granted = default
    if not 0 < granted < float("inf"):
        granted = default
    limit = min(granted, default) if header is None else granted
    return max(_LEAST_SECONDS, limit - min(_MARGIN_SECONDS, limit / 4))


def select(metrics: Sequence[Metric], names: Iterable[str]) -> list[Metric]:
    """The families and samples that ``name[]`` asks for; prometheus_client decides which."""
    registry = CollectorRegistry()
    for metric in metrics:
        registry.register(Rows([metric]))
    return list(registry.restricted_registry(names).collect())


def _lines(metric: Metric, chosen: Format) -> Iterator[str]:
    if isinstance(metric, RowMetric):
        yield from metric.encode(openmetrics=chosen.openmetrics)
        return
    registry = CollectorRegistry()
    registry.register(Rows([metric]))
    if chosen.openmetrics:
        whole = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # not annotated
        yield whole.decode().removesuffix(_EOF)
    else:
        yield generate_text(registry).decode()


def render(metrics: Iterable[Metric], chosen: Format) -> bytes:
    """Render families at once; see `exposition` for what serves others meanwhile."""
    end = _EOF if chosen.openmetrics else ""
    return "".join(chain.from_iterable(_lines(m, chosen) for m in metrics)).encode() + end.encode()


async def exposition(metrics: Iterable[Metric], chosen: Format) -> bytes:
    """Render families in slices of about two milliseconds."""
    pauses = Pauses()
    pieces: list[bytes] = []
    batch: list[str] = []
    for metric in metrics:
        for line in _lines(metric, chosen):
            batch.append(line)
            if len(batch) >= _SLICE_LINES:
                pieces.append("".join(batch).encode())
                batch.clear()
                await pauses.pause()
    batch.append(_EOF if chosen.openmetrics else "")
    pieces.append("".join(batch).encode())
    return b"".join(pieces)


def all_metrics(scraper: Scraper, snapshot: Snapshot, chosen: Format) -> list[Metric]:
    """The families of the process and of a snapshot."""
    own = (metric for collector in scraper.in_process for metric in collector.collect())
    return [*own, *snapshot.metrics(created=chosen.openmetrics)]


def metrics_handler(scraper: Scraper) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of GET and HEAD /metrics."""

    async def handle(request: web.Request) -> web.Response:
        headers: Mapping[str, str] = request.headers
        chosen = negotiate(", ".join(request.headers.getall("Accept", [])))
        limit = time_limit(headers.get("X-Prometheus-Scrape-Timeout-Seconds"), scraper.timeout)
        snapshot = await scraper.scrape(limit)
        metrics = all_metrics(scraper, snapshot, chosen)
        if names := request.query.getall("name[]", []):
            metrics = select(metrics, names)
        body = await exposition(metrics, chosen)
        response = web.Response(headers={"Content-Type": chosen.content_type})
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if len(body) >= _GZIP_FROM and _accepts_gzip(headers.get("Accept-Encoding")):
            body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
            response.headers["Content-Encoding"] = "gzip"
        response.body = body
        return response

    return handle
