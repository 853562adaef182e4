"""How the parts of a family's lines are written, and the memory of how they were.

A number, the labels of a series, an exemplar, a header: byte for byte as prometheus_client writes
them, to which a property test holds all that is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import isnan
from typing import Final, TypeVar

from prometheus_client.utils import floatToGoString

from collectors.base import Exemplar, Family, Histogram, Scalar

__all__ = [
    "EXEMPLAR_LABEL",
    "MARK",
    "Memory",
    "WrittenPortions",
    "WrittenSeries",
    "format_number",
    "header_of",
    "les_of",
    "text_of",
]

EXEMPLAR_LABEL: Final = "task_id"
"""The label that an exemplar has."""
MARK: Final = "\n"
"""The place of the value of ``le``: can't be in an escaped value, where a line never ends."""
WrittenSeries = dict[tuple[str, ...], tuple[Histogram, str]]
"""Whole series as they were last written, and what from, by their label values."""
WrittenPortions = dict[int, tuple[Sequence[Scalar], str]]
"""Portions of series as they were last written, and what from, by their number."""

_PLAIN_INTEGERS: Final = 1_000_000  # from here on Go, and prometheus_client, write an exponent

K = TypeVar("K")


def format_number(value: float) -> str:
    """A number as prometheus_client writes it."""
    if type(value) is int and 0 <= value < _PLAIN_INTEGERS:
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # not annotated there


def text_of(value: object) -> str:
    """A label value, whatever it is: NULL, which a DBA's view may have, is the empty one."""
    return "" if value is None else str(value)


def _is_plain(values: tuple[str, ...]) -> bool:
    """Whether label values are written as they are, like nearly all."""
    try:
        text = "".join(values)
    except TypeError:  # not all are text
        return False
    return not ("\\" in text or '"' in text or "\n" in text)


def _escaped(value: object) -> str:
    text = text_of(value)
    if "\\" in text or '"' in text or "\n" in text:
        text = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text


class Numbers(dict[float, str]):
    """Numbers as they are written, remembered."""

    def __missing__(self, value: float) -> str:
        text = format_number(value)
        if value and not isnan(value):  # -0.0 equals 0 but looks different; NaN is never found
            self[value] = text
        return text


class Texts(dict[K, str]):
    """How things are written, remembered."""

    def __init__(self, write: Callable[[K], str]) -> None:
        """Write with ``write``."""
        self._write = write

    def __missing__(self, key: K) -> str:
        text = self[key] = self._write(key)
        return text


class Memory:
    """How what seldom changes in a family is written, so that no scrape works it out again.

    A series keeps its labels and the time of its first fact for as long as there is one. Lines are
    kept for each format that was asked for: some 50 MB for 100,000 series in both.
    """

    def __init__(self, family: Family) -> None:
        """Nothing has been written yet."""
        self.labels = Texts(_labels_of(family.labels))
        # With a mark where le has its place among the others, in the order of their names.
        self.with_le = Texts(_labels_of(family.labels, also="le"))
        self.created = Numbers()
        self.numbers = Numbers()
        self.exemplars = Texts(_exemplar)
        self.scalars: dict[bool, WrittenPortions] = {}
        """By whether ``_created`` is shown."""
        self.histograms: dict[tuple[bool, bool], WrittenSeries] = {}
        """By format, and whether ``_created`` is shown."""

    def forget(self, samples: int) -> None:
        """Start anew when most of what is remembered is not of the ``samples`` that there are."""
        texts, numbers = (self.labels, self.with_le, self.exemplars), (self.created, self.numbers)
        for remembered in (*texts, *numbers):
            if len(remembered) > 2 * samples:
                remembered.clear()


@cache
def header_of(family: Family, openmetrics: bool) -> str:
    """The HELP and TYPE lines."""
    name, kind = family.name, str(family.kind)
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        name, text = family.base_name, text.replace('"', r"\"")
    elif kind == "info":
        kind = "gauge"
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


@cache
def les_of(family: Family) -> tuple[str, ...]:
    """The values of ``le``: the upper bounds of a histogram's buckets."""
    return (*map(format_number, map(float, family.bounds)), "+Inf")


@cache
def _labels_of(names: tuple[str, ...], also: str | None = None) -> Callable[[tuple[str, ...]], str]:
    """What writes label values as ``{…}``, in the order of the labels' names.

    The value of the label ``also`` is `MARK`.
    """
    parts = [(name, '="%s"') for name in names] + ([(also, f'="{MARK}"')] if also else [])
    template = ",".join(map("".join, sorted(parts)))
    template = f"{{{template}}}" if template else ""
    places = sorted(range(len(names)), key=names.__getitem__)
    as_they_are = places == list(range(len(names)))

    def write(values: tuple[str, ...]) -> str:
        ordered = values if as_they_are else tuple([values[place] for place in places])
        return template % (ordered if _is_plain(ordered) else tuple(map(_escaped, ordered)))

    return write


def _exemplar(exemplar: Exemplar) -> str:
    value, seconds, at = exemplar
    return f' # {{{EXEMPLAR_LABEL}="{_escaped(value)}"}} {format_number(seconds)} {at}'
