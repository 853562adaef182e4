"""What a collector is made of: families declared as data, and their samples as plain rows.

A family that comes from rows renders itself (:meth:`RowMetric.encode`), which is some ten times
faster than prometheus_client's general way and byte for byte equal to it; a property test holds the
two against each other. The formats:

- https://prometheus.io/docs/instrumenting/exposition_formats/
- https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["DatabaseCollector", "Family", "Histogram", "RowMetric", "Scalar", "format_number"]

Kind = Literal["counter", "gauge", "histogram", "info"]

_PLAIN_INTEGERS: Final = 1_000_000  # from here on Go, and prometheus_client, write an exponent


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family of the contract.

    ``name`` is as scraped, with ``_total``; ``bounds`` are a histogram's finite upper bounds in
    seconds.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def base_name(self) -> str:
        """The name without the suffix of its kind, as OpenMetrics and prometheus_client have it."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return self.name.removesuffix(suffix) if suffix else self.name


class Scalar(NamedTuple):
    """The value of one series; ``created`` is when its first fact happened, in Unix seconds."""

    labels: tuple[str, ...]
    value: float
    created: float | None = None


class Histogram(NamedTuple):
    """One series of a histogram: observations in each bucket alone, +Inf last; sum in seconds."""

    labels: tuple[str, ...]
    counts: Sequence[int]
    total: float
    created: float | None = None


def format_number(value: float) -> str:
    """A number as prometheus_client writes it."""
    if type(value) is int and 0 <= value < _PLAIN_INTEGERS:
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # not annotated there


class _Escaped(dict[str, str]):
    """Label values, escaped and remembered: one agent is in many series."""

    def __missing__(self, value: str) -> str:
        text = str(value)
        if "\\" in text or '"' in text or "\n" in text:
            text = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        self[value] = text
        return text


class RowMetric(Metric):
    """A family with rows for samples.

    A Metric like any other for prometheus_client, which builds ``samples`` only when it needs them
    (for ``name[]``), and quick to render.
    """

    def __init__(
        self,
        family: Family,
        rows: Iterable[Scalar | Histogram] = (),
        *,
        created: bool = False,
    ) -> None:
        """``created`` adds the ``_created`` samples, which only OpenMetrics shows."""
        self._samples: list[Sample] | None = None
        super().__init__(family.base_name, family.help, family.kind)
        self.family = family
        self.rows: list[Scalar | Histogram] = list(rows)
        self._created = created
        self._samples = None

    @property
    def samples(self) -> list[Sample]:
        """The samples as prometheus_client has them."""
        if self._samples is None:
            self._samples = [sample for row in self.rows for sample in self._samples_of(row)]
        return self._samples

    @samples.setter
    def samples(self, value: list[Sample]) -> None:
        self._samples = value

    def _samples_of(self, row: Scalar | Histogram) -> Iterator[Sample]:
        family = self.family
        labels = dict(zip(family.labels, map(str, row.labels), strict=True))
        if isinstance(row, Scalar):
            yield Sample(family.name, labels, row.value)
        else:
            for le, count in zip(self._les(), accumulate(row.counts), strict=True):
                yield Sample(f"{family.name}_bucket", labels | {"le": le}, count)
            yield Sample(f"{family.name}_count", labels, sum(row.counts))
            yield Sample(f"{family.name}_sum", labels, row.total)
        if self._created and row.created is not None:
            yield Sample(f"{family.base_name}_created", labels, row.created)

    def _les(self) -> list[str]:
        return [*map(format_number, map(float, self.family.bounds)), "+Inf"]

    def header(self, *, openmetrics: bool) -> str:
        """The HELP and TYPE lines."""
        family = self.family
        name, kind = family.name, str(family.kind)
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            name, text = family.base_name, text.replace('"', r"\"")
        elif kind == "info":
            kind = "gauge"
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"

    def encode(self, *, openmetrics: bool) -> Iterator[str]:
        """Yield the header and then the lines of each series, so that a caller can pause between.

        Text has no ``_created``; make the metric without them for it.
        """
        yield self.header(openmetrics=openmetrics)
        line = self._histogram_lines if self.family.kind == "histogram" else self._scalar_lines
        escaped = _Escaped()
        names = sorted(range(len(self.family.labels)), key=lambda i: self.family.labels[i])
        yield from line(escaped, [(self.family.labels[i], i) for i in names])

    def _scalar_lines(self, escaped: _Escaped, order: list[tuple[str, int]]) -> Iterator[str]:
        name = self.family.name
        created_name = f"{self.family.base_name}_created"
        for row in self.rows:
            values = row.labels
            inside = ",".join([f'{label}="{escaped[values[i]]}"' for label, i in order])
            labels = f"{{{inside}}}" if inside else ""
            text = f"{name}{labels} {format_number(row.value)}\n"  # type: ignore[union-attr]  # Scalar
            if self._created and row.created is not None:
                text += f"{created_name}{labels} {format_number(row.created)}\n"
            yield text

    def _histogram_lines(self, escaped: _Escaped, order: list[tuple[str, int]]) -> Iterator[str]:
        name = self.family.name
        before = [(label, i) for label, i in order if label < "le"]
        after = [(label, i) for label, i in order if label > "le"]
        les = [f'le="{le}"' for le in self._les()]
        for row in self.rows:
            values = row.labels
            head = "".join([f'{label}="{escaped[values[i]]}",' for label, i in before])
            tail = "".join([f',{label}="{escaped[values[i]]}"' for label, i in after])
            inside = (head + tail[1:]) if tail else head[:-1]
            labels = f"{{{inside}}}" if inside else ""
            cumulated = list(accumulate(row.counts))  # type: ignore[union-attr]  # Histogram
            text = "".join(
                [
                    f"{name}_bucket{{{head}{le}{tail}}} {format_number(count)}\n"
                    for le, count in zip(les, cumulated, strict=True)
                ]
            )
            total = format_number(row.total)  # type: ignore[union-attr]  # Histogram
            text += f"{name}_count{labels} {format_number(cumulated[-1])}\n"
            text += f"{name}_sum{labels} {total}\n"
            if self._created and row.created is not None:
                text += f"{name}_created{labels} {format_number(row.created)}\n"
            yield text


class DatabaseCollector(ABC):
    """Computes families from the database at every scrape.

    `fetch` runs inside the scrape's transaction; `build` is a pure function of what it returned.
    """

    name: str
    """Value of the label ``collector``."""
    families: tuple[Family, ...]

    @abstractmethod
    async def fetch(self, reader: Reader) -> object:
        """Read what `build` needs; raises whatever asyncpg does."""

    @abstractmethod
    def build(self, data: object) -> Mapping[str, list[Scalar] | list[Histogram]]:
        """Turn what `fetch` returned into the series of each family, by family name."""


class Rows(Collector):
    """Metrics that are already there, as a prometheus_client collector of one scrape."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        """Offer ``metrics``."""
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Yield the families; without this ``name[]`` would find nothing."""
        return self._metrics

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        return self._metrics
