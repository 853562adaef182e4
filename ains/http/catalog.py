"""The page /metrics/catalog. What stands in it comes from `collectors.catalog`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import groupby

from ains.http.docs import Page, page
from collectors.catalog import SUBJECTS, Entry

__all__ = ["catalog_page"]

_TOP = """<link rel="stylesheet" href="/docs/assets/catalog.css">
<script src="/docs/assets/catalog.js" defer></script>
<div class="catalog">
<h1>Metrics <small>{count} families</small></h1>
<p>What <a href="/metrics">/metrics</a> shows. Counters count facts that happened, whatever becomes
of the rows; all that comes from the database is of one snapshot, and the same at every instance:
take <code>max without (instance)</code> of it, not the sum. <code>ains metrics explain NAME</code>
shows the SQL and the plans behind a family, <code>ains metrics verify</code> counts all of it
again.</p>
{away}<form role="search">
<label for="search">Search</label>
<input type="search" id="search" placeholder="timeout, agent_id, histogram …" autocomplete="off">
<output for="search" id="found"></output>
<span class="formats"><a href="?format=json">JSON</a></span>
</form>
<nav class="subjects" aria-label="Subjects">{subjects}</nav>
"""
_AWAY = """<p class="away" role="status">The database is away, so the series of its families
can't be counted now. Everything else on this page is as always.</p>
"""
_TABLE = """<table>
<caption class="unseen">Metric families by subject</caption>
<thead><tr><th scope="col">Family</th><th scope="col">What it counts</th>
<th scope="col">Ask it with PromQL</th><th scope="col" class="number">Series now</th></tr></thead>
{bodies}
</table>
<p id="nothing" hidden>No family has all these words.</p>
</div>"""


def catalog_page(entries: Iterable[Entry], series: Mapping[str, int], *, up: bool) -> Page:
    """Return the page; ``series`` are those of a scrape just now, by family."""
    listed = list(entries)
    subjects = " ".join(
        f'<a href="#{_anchor(subject.name)}">{escape(subject.name)}</a>' for subject in SUBJECTS
    )
    top = _TOP.format(count=len(listed), away="" if up else _AWAY, subjects=subjects)
    bodies = "\n".join(
        _body(name, list(group), series) for name, group in groupby(listed, lambda e: e.subject)
    )
    return page("Metrics", top + _TABLE.format(bodies=bodies))


def _anchor(subject: str) -> str:
    return subject.lower().replace(" ", "-")


def _body(subject: str, entries: list[Entry], series: Mapping[str, int]) -> str:
    about = next(s.about for s in SUBJECTS if s.name == subject)
    rows = "\n".join(_row(entry, series.get(entry.family.name)) for entry in entries)
    return (
        f'<tbody id="{_anchor(subject)}"><tr class="subject"><th scope="rowgroup" colspan="4">'
        f"<h2>{escape(subject)}</h2><span>{escape(about)}</span></th></tr>\n{rows}</tbody>"
    )


def _row(entry: Entry, series: int | None) -> str:
    family = entry.family
    unit = f'<span class="unit">{escape(entry.unit)}</span>' if entry.unit else ""
    view = f"<code>{escape(entry.view)}</code>" if entry.view else "counted in the process"
    shown = f"{series:,}" if series is not None else '<span title="not scraped now">–</span>'
    return (
        f'<tr id="{family.name}"><th scope="row">'
        f'<a class="name" href="#{family.name}">{_breakable(family.name)}</a>'
        f'<span class="kind {family.kind}">{family.kind}</span>{unit}'
        f'<div class="view"><span class="unseen">View: </span>{view}</div></th>'
        f"<td>{''.join(_meaning(entry))}</td><td>{''.join(_examples(entry))}</td>"
        f'<td class="number" data-title="series now">{shown}</td></tr>'
    )


def _breakable(name: str) -> str:
    return escape(name).replace("_", "_<wbr>")


def _meaning(entry: Entry) -> Iterator[str]:
    yield f"<p>{escape(entry.meaning)}</p>"
    if entry.labels:
        items = "".join(
            f"<dt><code>{escape(label)}</code></dt><dd>{escape(meaning)}</dd>"
            for label, meaning in entry.labels.items()
        )
        yield f"<dl>{items}</dl>"
    if entry.buckets:
        bounds = " ".join(b.removesuffix(".0") for b in entry.buckets)
        yield f'<p class="buckets"><code>le</code> {bounds}</p>'


def _examples(entry: Entry) -> Iterator[str]:
    for question, query in entry.examples:
        yield (
            f"<figure><figcaption>{escape(question)}</figcaption>"
            f"<pre><code>{escape(query)}</code></pre></figure>"
        )
