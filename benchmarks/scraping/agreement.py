"""Whether all that are measured give the same answer: else it would not be the same work."""

import math
from collections.abc import Iterator
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.scraping.queries import QUERIES, Query

__all__ = ["Values", "differences", "values"]

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Samples by name and labels."""

_PREFIX: Final = "sql_"
_BY_SAMPLE: Final[dict[str, Query]] = {
    name: query
    for query in QUERIES
    for name in (
        [f"{query.family}_{part}" for part in ("bucket", "sum", "count")]
        if query.kind == "histogram"
        else [query.family]
    )
}
_BY_FAMILY: Final = {query.family: query for query in QUERIES}


def values(text: str) -> Values:
    """The samples of the families that all are asked for, without labels that an exporter adds."""
    return {
        (name, frozenset((label, labels[label]) for label in _labels(name))): value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
        for name, labels, value in _plain(sample)
    }


def _plain(sample: Sample) -> Iterator[tuple[str, dict[str, str], float]]:
    name, labels = sample.name, sample.labels
    query = _BY_FAMILY.get(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    if query is not None:
        name = query.family
        if query.kind == "histogram":
            column = labels["col"]
            part = column if column in {"sum", "count"} else "bucket"
            name, labels = f"{name}_{part}", labels | {"le": column}
    if name in _BY_SAMPLE:
        if "le" in labels:
            labels = (
                labels | {"le": str(float(labels["le"]))} if name.endswith("_bucket") else labels
            )
        yield name, labels, sample.value


def _labels(name: str) -> tuple[str, ...]:
    return (*_BY_SAMPLE[name].labels, *(("le",) if name.endswith("_bucket") else ()))


def differences(ours: Values, theirs: Values) -> list[str]:
    """What the two disagree about, in words."""
    found = []
    for key in ours.keys() | theirs.keys():
        a, b = ours.get(key), theirs.get(key)
        if a is None or b is None or not math.isclose(a, b, rel_tol=1e-9):
            labels = ", ".join(f"{label}={value}" for label, value in sorted(key[1]))
            found.append(f"{key[0]}{{{labels}}}: {a} here, {b} there")
    return sorted(found)
