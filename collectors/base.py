"""What a collector is made of: families declared as data, and their samples as plain rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final, Generic, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = [
    "Built",
    "DatabaseCollector",
    "Exemplar",
    "Family",
    "Histogram",
    "Kind",
    "Portions",
    "Row",
    "Scalar",
    "has_any",
]

Data = TypeVar("Data")
P = ParamSpec("P")
Kind = Literal["counter", "gauge", "histogram", "info"]

HISTOGRAM_PARTS: Final = ("bucket", "count", "sum", "created")


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric family of the contract: equal to itself alone, and a quick key.

    ``name`` is as scraped, with ``_total``; ``bounds`` are a histogram's finite upper bounds in
    seconds.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    @cache  # noqa: B019 - families live as long as the process
    def base_name(self) -> str:
        """The name without the suffix of its kind, as OpenMetrics and prometheus_client have it."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return self.name.removesuffix(suffix) if suffix else self.name

    @property
    @cache  # noqa: B019
    def sample_names(self) -> tuple[str, ...]:
        """The names that its samples may have, ``_created`` last."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in HISTOGRAM_PARTS)
        return (self.name, f"{self.base_name}_created") if self.kind == "counter" else (self.name,)


def has_any(families: Iterable[Family], names: Collection[str]) -> bool:
    """Whether ``names`` has one of the families, or of their samples."""
    return any(name in names for f in families for name in (f.name, f.base_name, *f.sample_names))


# Rows are plain tuples since the garbage collector need not track those: as instances of classes,
# a hundred thousand of them stop the process for 40 ms when it looks at them.
Scalar = tuple[tuple[str, ...], float, float | None]
"""One series: label values, value, and when its first fact happened, in Unix seconds."""
Exemplar = tuple[str, float, float]
"""A recent observation: the id of its task, its value in seconds, and its Unix time."""
Histogram = tuple[tuple[str, ...], Sequence[int], float, float | None, Sequence[Exemplar | None]]
"""One series of a histogram: label values, observations in each bucket alone (+Inf last), their sum
in seconds, when the first one happened, in Unix seconds, and an exemplar of each bucket (empty when
there are none at all)."""
Row = Scalar | Histogram


class Portions:
    """Rows, some hundred at a time, made anew whenever they are asked for.

    So a scrape never holds a hundred thousand rows, and others may run between two portions.
    """

    def __init__(
        self, make: Callable[P, Iterator[Sequence[Row]]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Make the rows by calling ``make``."""
        self._make = partial(make, *args, **kwargs)

    def __iter__(self) -> Iterator[Sequence[Row]]:
        """Iterate over all portions from the first one."""
        return self._make()


Built = Mapping[str, Iterable[Sequence[Row]]]
"""The rows of each family by its name, in portions; may be iterated again and again."""


class DatabaseCollector(ABC, Generic[Data]):
    """Computes families from the database at every scrape.

    `fetch` runs inside the scrape's transaction; `build` is a pure function of what it returned.
    """

    name: str
    """Value of the label ``collector``."""
    families: tuple[Family, ...]

    @abstractmethod
    async def fetch(self, reader: Reader) -> Data:
        """Read what `build` needs; raises whatever asyncpg does."""

    @abstractmethod
    def build(self, data: Data) -> Built:
        """Turn what `fetch` returned into the rows of each family.

        They are made while they are rendered, long after the snapshot: nothing in them reads the
        database.
        """
