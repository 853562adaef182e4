"""What a scrape asks for in its headers: format, compression, time limit.

Accept is negotiated as RFC 9110 says, with the media types of the Prometheus exposition formats;
what can't be understood in it is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Final, NamedTuple

__all__ = ["OPENMETRICS", "TEXT", "Format", "accepts_gzip", "negotiate", "time_limit"]

_MARGIN_SECONDS: Final = 0.5
_LEAST_SECONDS: Final = 0.05
_MOST_SECONDS: Final = 300.0
_WILDCARD: Final = 2


class Format(NamedTuple):
    """An exposition format."""

    content_type: str
    openmetrics: bool


TEXT: Final = Format("text/plain; version=0.0.4; charset=utf-8", False)
TEXT_1: Final = Format("text/plain; version=1.0.0; charset=utf-8", False)
OPENMETRICS: Final = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", True)

_PREFERRED: Final = (
    # Among equals the richer one, but what everybody reads where anything will do.
    (OPENMETRICS, "application/openmetrics-text", "1.0.0"),
    (TEXT, "text/plain", "0.0.4"),
    (TEXT_1, "text/plain", "1.0.0"),
)


class _Element(NamedTuple):
    """One element of an Accept header."""

    media: str
    parameters: dict[str, str]
    weight: float

    def specificity(self, media: str, version: str) -> int:
        """How precisely this names a format, 0 when it does not."""
        if self.media == media:
            return {version: 4, None: 3}.get(self.parameters.get("version"), 0)
        return {"*/*": 1, f"{media.partition('/')[0]}/*": 2}.get(self.media, 0)


def _elements(header: str) -> Iterator[_Element]:
    """Yield what can be understood of an Accept header."""
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
            yield _Element(media.lower(), parameters, weight)


def negotiate(accept: str | None) -> Format:
    """Choose the format; text 0.0.4, which every scraper reads, when nothing fits.

    Of the elements that fit a format the most specific one counts (RFC 9110, 12.5.1), and a format
    that is named comes before one that a wildcard lets pass. Prometheus 3 also asks how names that
    are no identifiers are to be escaped; ours all are, and look the same as ``allow-utf-8`` and as
    ``underscores``, which is what whoever asks for another scheme is told.
    """
    elements = list(_elements(accept or ""))
    best, best_rank, escaping = TEXT, (0.0, False), None
    for chosen, media, version in _PREFERRED:
        fitting = [(e.specificity(media, version), e) for e in elements]
        specificity, element = max(fitting, key=itemgetter(0), default=(0, None))
        if element is None or specificity == 0 or element.weight == 0:
            continue
        named = specificity > _WILDCARD
        rank = (element.weight, named)
        if rank > best_rank or (rank == best_rank and not named and chosen is TEXT):
            best, best_rank = chosen, rank
            escaping = element.parameters.get("escaping")
    if escaping is None or best is TEXT:
        return best
    scheme = escaping if escaping == "allow-utf-8" else "underscores"
    return best._replace(content_type=f"{best.content_type}; escaping={scheme}")


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding header lets the answer be compressed."""
    weights = {element.media: element.weight for element in _elements(header or "")}
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0))) > 0


def time_limit(header: str | None, default: float) -> float:
    """Seconds that a scrape may take: what Prometheus grants, less the time to answer in.

    A limit that is no positive number is passed over.
    """
    try:
        limit = float(header) if header is not None else default
    except ValueError:
        limit = default
    if not 0 < limit < float("inf"):
        limit = default
    limit = min(limit, _MOST_SECONDS)
    return max(_LEAST_SECONDS, limit - min(_MARGIN_SECONDS, limit / 4))
