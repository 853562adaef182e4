"""benchmarks/report: draws results/scrape.json as docs/scrape-time.png."""

import json
from pathlib import Path
from statistics import geometric_mean
from typing import Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks.support.results import DATA

_PICTURE: Final = Path(__file__).resolve().parents[2] / "docs" / "scrape-time.png"


class _Look(NamedTuple):
    """How a line is drawn: told apart by colour, marker and dashes."""

    label: str
    colour: str
    marker: str
    dashes: str = "-"


_LOOKS: Final = {
    "prometheus-sql-exporter": _Look("prometheus-sql-exporter", "#D55E00", "v", ":"),
    "prometheus-postgres-exporter": _Look("prometheus-postgres-exporter", "#B37400", "s", "--"),
    "GROUP BY": _Look("GROUP BY in Python", "#A8487F", "^", "-."),
    "ains": _Look("AINS", "#0072B2", "o"),
    "floor": _Look("floor: totals + loop", "#595959", "D", ":"),
}
_TASKS: Final = {10_000: "10 k", 100_000: "100 k", 1_000_000: "1 M", 10_000_000: "10 M"}
_TIMES: Final = {
    1: "1 ms",
    10: "10 ms",
    100: "100 ms",
    1_000: "1 s",
    10_000: "10 s",
    100_000: "100 s",
}
_LINE_HEIGHT: Final = 0.042  # of the height of the axis
_BOTTOM: Final = 0.7

Series = dict[str, dict[int, float]]
"""Milliseconds by number of tasks, of everything that was measured."""


def _series() -> Series:
    saved = json.loads((DATA / "scrape.json").read_text())["milliseconds"]
    found: Series = {}
    for tasks, times in saved.items():
        for name, milliseconds in times.items():
            found.setdefault(name, {})[int(tasks)] = milliseconds
    return found


def _top(series: Series) -> float:
    return 2 * max(max(times.values()) for times in series.values())


def _label_heights(series: Series) -> dict[str, float]:
    """Where the labels stand: at the ends of their lines, close ones in a pile around them."""
    line = (_top(series) / _BOTTOM) ** _LINE_HEIGHT  # a factor: the axis is logarithmic
    ends = sorted((times[max(times)], name) for name, times in series.items())
    piles: list[list[tuple[float, str]]] = []
    for end, name in ends:
        if piles and end < piles[-1][-1][0] * line:
            piles[-1].append((end, name))
        else:
            piles.append([(end, name)])
    return {
        name: geometric_mean([end for end, _ in pile]) * line ** (i - (len(pile) - 1) / 2)
        for pile in piles
        for i, (_, name) in enumerate(pile)
    }


def _draw(axes: Axes, series: Series) -> None:
    heights = _label_heights(series)
    for name, times in series.items():
        look = _LOOKS[name]
        tasks = sorted(times)
        axes.plot(
            tasks,
            [times[number] for number in tasks],
            color=look.colour,
            marker=look.marker,
            linestyle=look.dashes,
            linewidth=2.6 if name == "ains" else 1.8,
            markersize=7,
        )
        text = f"{look.label}, {_words(times[tasks[-1]])}"
        weight = "bold" if name == "ains" else "normal"
        place = (tasks[-1] * 1.18, heights[name])
        axes.text(*place, text, color=look.colour, va="center", fontsize=10.5, weight=weight)


def _words(milliseconds: float) -> str:
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _frame(axes: Axes, series: Series) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    tasks = sorted({number for times in series.values() for number in times})
    top = _top(series)
    ticks = [time for time in _TIMES if time <= top * 1.5]
    axes.set_xlim(tasks[0] * 0.8, tasks[-1] * 1.3)
    axes.set_ylim(_BOTTOM, top)
    axes.xaxis.set_major_locator(FixedLocator(tasks))
    axes.xaxis.set_major_formatter(FixedFormatter([_TASKS[number] for number in tasks]))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([_TIMES[time] for time in ticks]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("tasks in the database")
    axes.set_title("Time of one scrape over HTTP, with the same series", loc="left", pad=12)


def main() -> None:
    """Draw."""
    mpl.rcParams["font.size"] = 11
    series = _series()
    figure = Figure(figsize=(9, 5))
    axes = figure.add_axes((0.085, 0.115, 0.585, 0.79))
    _frame(axes, series)
    _draw(axes, series)
    figure.savefig(_PICTURE, dpi=110, metadata={"Software": None})
    print(_PICTURE)


if __name__ == "__main__":
    main()
