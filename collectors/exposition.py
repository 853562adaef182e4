"""Answers a scrape over HTTP: which families, rendered, compressed or not.

A large answer is rendered, compressed and sent in slices, so that the event loop goes on serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from isal import isal_zlib
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from collectors.negotiation import Format, accepts_gzip, negotiate, time_limit
from collectors.reader import Pauses
from collectors.rowmetric import RowMetric

if TYPE_CHECKING:
    from collectors.scrape import Scraper, Snapshot

__all__ = ["all_metrics", "compressed", "exposition", "metrics_handler", "render", "select"]

_EOF: Final = "# EOF\n"
_GZIP_LEVEL: Final = 1
_GZIP_FORMAT: Final = 16 + isal_zlib.MAX_WBITS
_GZIP_FROM: Final = 1024
_BLOCK: Final = 16 * 1024


Failed = Callable[[Metric, Exception], None]
Steps = Iterator[None]


def select(metrics: Iterable[Metric], names: Collection[str]) -> list[Metric]:
    """The families that ``name[]`` asks for, and the samples of others that it asks for.

    The samples are those that prometheus_client would show; that a histogram can be had by its
    family's name is ours.
    """
    found = []
    for metric in metrics:
        shown = metric if metric.name in names else _restricted(metric, names)
        if shown is not None:
            found.append(shown)
    return found


def _restricted(metric: Metric, names: Collection[str]) -> Metric | None:
    if isinstance(metric, RowMetric):
        shown = metric.restricted(names)
        return shown if shown.sample_names else None
    some = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    some.samples = [sample for sample in metric.samples if sample.name in names]
    return some if some.samples else None


class _One(Collector):
    """One metric, as prometheus_client's generators want it: no registry is needed for that."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def _lines(metric: Metric, chosen: Format) -> Iterator[str]:
    if isinstance(metric, RowMetric):
        yield from metric.encode(openmetrics=chosen.openmetrics)
    elif chosen.openmetrics:
        whole = generate_openmetrics(_One(metric))  # type: ignore[no-untyped-call]  # not annotated
        yield whole.decode().removesuffix(_EOF)
    else:
        yield generate_text(_One(metric)).decode()


def _encoded(text: str) -> bytes:
    # An environment variable that is no UTF-8 must not cost the whole scrape.
    return text.encode(errors="replace")


def _render(metrics: Iterable[Metric], chosen: Format, failed: Failed, out: list[bytes]) -> Steps:
    """Append what is rendered to ``out``, families that fail not at all; yield after each step."""
    for metric in metrics:
        before = len(out)
        try:
            for text in _lines(metric, chosen):
                out.append(_encoded(text))
                yield
        except Exception as error:  # noqa: BLE001 - one family's mistake is not the others'
            del out[before:]
            failed(metric, error)


def _end(chosen: Format) -> list[bytes]:
    return [_EOF.encode()] if chosen.openmetrics else []


def _raise(_: Metric, error: Exception) -> None:
    raise error


def render(metrics: Iterable[Metric], chosen: Format, failed: Failed = _raise) -> bytes:
    """Render families at once; see `exposition` for what serves others meanwhile."""
    out: list[bytes] = []
    for _ in _render(metrics, chosen, failed, out):
        pass
    return b"".join([*out, *_end(chosen)])


async def exposition(
    metrics: Iterable[Metric], chosen: Format, failed: Failed = _raise
) -> list[bytes]:
    """Render families, the event loop serves others meanwhile; the answer is in pieces.

    ``failed`` is told of a family that can't be rendered, which is left out then.
    """
    return [*await _pieces(metrics, chosen, failed), *_end(chosen)]


async def _pieces(metrics: Iterable[Metric], chosen: Format, failed: Failed) -> list[bytes]:
    pauses = Pauses()
    out: list[bytes] = []
    for _ in _render(metrics, chosen, failed, out):
        if pauses.due:  # asked here, since most of the time it is not
            await pauses.pause()
    return out


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` joined so far that neither their number nor the length of one costs much."""
    block, size = [], 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


async def compressed(pieces: list[bytes]) -> list[bytes]:
    """Compress ``pieces``, which is empty then, with gzip (RFC 1952); others are served meanwhile.

    In slices like all else, a block takes some 10 us. A thread would want one more processor, and
    the interpreter's lock again after each block.
    """
    pauses = Pauses()
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    out = []
    for block in _blocks(_emptied(pieces)):
        out.append(compressor.compress(block))
        await pauses.pause()
    return [*out, compressor.flush()]


def _emptied(pieces: list[bytes]) -> Iterator[bytes]:
    pieces.reverse()
    while pieces:
        yield pieces.pop()


class _Body(Payload):
    """A body in pieces. It is never joined as a whole, which would take milliseconds."""

    _autoclose = True

    def __init__(self, pieces: list[bytes], content_type: str) -> None:
        super().__init__(pieces, content_type=content_type)
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        pauses = Pauses()
        # Each piece is freed when it is sent: all at once would take a millisecond, too.
        for block in _blocks(_emptied(self._value)):
            await writer.write(block)
            await pauses.pause()


def _own(scraper: Scraper) -> Iterator[Metric]:
    """What the process itself has counted."""
    for collector in scraper.in_process:
        yield from collector.collect()


def all_metrics(scraper: Scraper, snapshot: Snapshot, chosen: Format) -> list[Metric]:
    """The families of the process and of a snapshot."""
    return [*_own(scraper), *snapshot.metrics(created=chosen.openmetrics)]


def metrics_handler(scraper: Scraper) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of GET and HEAD /metrics."""

    async def handle(request: web.Request) -> web.Response:
        headers: Mapping[str, str] = request.headers
        chosen = negotiate(", ".join(request.headers.getall("Accept", [])))
        limit = time_limit(headers.get("X-Prometheus-Scrape-Timeout-Seconds"), scraper.timeout)
        names = frozenset(request.query.getall("name[]", [])) or None

        def picked(metrics: Iterable[Metric]) -> Iterable[Metric]:
            return metrics if names is None else select(metrics, names)

        scraping = asyncio.create_task(scraper.scrape(limit, names))
        try:
            await asyncio.sleep(0)  # begins it,
            await asyncio.sleep(0)  # and sends the first statement: it is the database's turn
            own = [*_own(scraper)]  # of one moment
            pieces = await _pieces(picked(own), chosen, scraper.failed)
            snapshot = await scraping
        finally:
            scraping.cancel()
        shown = picked(snapshot.metrics(created=chosen.openmetrics))
        pieces += await exposition(shown, chosen, snapshot.failed)
        answer = {"Content-Type": chosen.content_type, "Vary": "Accept, Accept-Encoding"}
        size = sum(map(len, pieces))
        if size >= _GZIP_FROM and accepts_gzip(headers.get("Accept-Encoding")):
            pieces = await compressed(pieces)
            answer["Content-Encoding"] = "gzip"
        return web.Response(body=_Body(pieces, chosen.content_type), headers=answer)

    return handle
