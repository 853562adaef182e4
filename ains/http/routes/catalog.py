"""What each metric means, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.types import QueryModel
from ains.http.catalog import catalog_page
from ains.http.handler import Routes
from ains.http.render import JSON, json_response
from collectors.catalog import catalog
from collectors.exposition import all_metrics
from collectors.negotiation import TEXT
from collectors.reader import Pauses
from collectors.rowmetric import RowMetric
from collectors.scrape import Scraper

__all__ = ["catalog_routes"]

_PATIENCE_SECONDS: Final = 2.0


class CatalogLabel(TypedDict):
    """A label of a family."""

    name: str
    meaning: str


class CatalogExample(TypedDict):
    """A question and the PromQL that answers it."""

    question: str
    query: str


class CatalogFamily(TypedDict):
    """One family; ``series`` is null when it wasn't scraped just now."""

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    subject: str
    help: str
    meaning: str
    labels: list[CatalogLabel]
    unit: str
    buckets: list[str]
    source: str
    view: str | None
    examples: list[CatalogExample]
    series: int | None


class Catalog(TypedDict):
    """All families; while the database is away, without the series of its families."""

    database_up: bool
    families: list[CatalogFamily]


class CatalogQuery(QueryModel):
    """How the catalog is to be shown."""

    format: Literal["html", "json"] | None = Field(
        None, description="A page or JSON; what `Accept` prefers by default, else the page."
    )


def catalog_routes(scraper: Scraper) -> Routes:
    """Return the route /metrics/catalog; ``scraper`` says how many series there are."""
    routes = Routes("Metrics")

    @routes.get("/metrics/catalog", returns=Catalog, produces=(JSON, "text/html"))
    async def show(request: web.Request, query: CatalogQuery) -> web.Response:
        """Show what each metric means.

        Type, labels, unit, buckets, the view in the schema `metrics`, PromQL to start from, and
        the number of series of a scrape just now. A page for people, or JSON.
        """
        up, series = await _series(scraper)
        entries = list(catalog())
        as_json = query.format == "json" if query.format else _prefers_json(request)
        if not as_json:
            response = catalog_page(entries, series, up=up).respond(request)
        else:
            families = [
                cast("CatalogFamily", e.as_json() | {"series": series.get(e.family.name)})
                for e in entries
            ]
            response = json_response({"database_up": up, "families": families})
        response.headers.add("Vary", "Accept")
        return response

    return routes


async def _series(scraper: Scraper) -> tuple[bool, Mapping[str, int]]:
    """Whether the database answered, and how many series each family has."""
    snapshot = await scraper.scrape(min(scraper.timeout, _PATIENCE_SECONDS))
    per_labels = {entry.family.name: entry.samples for entry in catalog()}
    series: dict[str, int] = {}
    pauses = Pauses()
    for metric in all_metrics(scraper, snapshot, TEXT):
        if isinstance(metric, RowMetric):
            name = metric.family.name
            series[name] = 0
            for portion in metric.portions:
                series[name] += len(portion) * per_labels.get(name, 1)
                await pauses.pause()
    return snapshot.up, series


def _prefers_json(request: web.Request) -> bool:
    """Whether ``Accept`` names JSON, and no page that it likes as well."""
    weights: dict[str, float] = {}
    for element in request.headers.get("Accept", "").lower().split(","):
        media, *parameters = (part.strip() for part in element.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        weights[media] = weight
    return weights.get("application/json", 0) > weights.get("text/html", 0)
