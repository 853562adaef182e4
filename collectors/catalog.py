"""Every family for people: what it means, where it comes from, and what to ask of it.

Name, type, labels and help are the collectors' own; the rest stands here, once, for the page
/metrics/catalog, ``ains metrics explain`` and the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from collectors import exporter
from collectors.agents import AgentCollector
from collectors.base import Family
from collectors.catalog_texts import EXAMPLES, LABELS, MEANINGS
from collectors.chains import ChainCollector
from collectors.database import DatabaseUseCollector, PoolState, QueryStats
from collectors.http import HttpCollector, HttpMetrics
from collectors.notation import format_number
from collectors.queue import QueueCollector
from collectors.rowmetric import RowMetric
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector

__all__ = ["SUBJECTS", "Entry", "Example", "Source", "Subject", "catalog", "closest", "find"]

_CLOSE: Final = 0.6


class Source(NamedTuple):
    """Where the numbers come from."""

    name: str
    in_database: bool
    """Else they are counted in each process, from its start on."""


_LEDGER: Final = "the {} ledger: facts that triggers wrote"
_TASKS: Final = Source(_LEDGER.format("task"), True)
_CHAINS: Final = Source(_LEDGER.format("chain"), True)
_WEBHOOKS: Final = Source(_LEDGER.format("webhook"), True)
_AGENTS: Final = Source("the table agents, as it is now", True)
_RUNNABLE: Final = Source("the table tasks, as it is now", True)
_HTTP: Final = Source("this process's HTTP middleware (collectors/http.py)", False)
_POOL: Final = Source("this process's database pool (collectors/database.py)", False)
_SCRAPE: Final = Source("the scrape itself (collectors/exporter.py)", False)


class Subject(NamedTuple):
    """A group of families."""

    name: str
    about: str
    source: Source
    families: tuple[Family, ...]


def _described(collector: Any) -> tuple[Family, ...]:
    return tuple(m.family for m in collector.describe() if isinstance(m, RowMetric))


SUBJECTS: Final = (
    Subject(
        "Tasks",
        "What happened to tasks, and how many wait or run now.",
        _TASKS,
        (*TaskCollector.families, *QueueCollector.families),
    ),
    Subject("Agents", "Who is registered, alive and trusted.", _AGENTS, AgentCollector.families),
    Subject("Chains", "Tasks that run one after another.", _CHAINS, ChainCollector.families),
    Subject("Webhooks", "Events that were sent to clients.", _WEBHOOKS, WebhookCollector.families),
    Subject(
        "HTTP",
        "Requests to this process. Sum over instances for the whole service.",
        _HTTP,
        _described(HttpCollector(HttpMetrics())),
    ),
    Subject(
        "Database use",
        "Connections and statements of this process.",
        _POOL,
        _described(DatabaseUseCollector(QueryStats(), lambda: PoolState(0, 0, 0))),
    ),
    Subject(
        "Exporter",
        "Whether the numbers of this scrape can be relied on.",
        _SCRAPE,
        (exporter.INFO, *exporter.FAMILIES),
    ),
)
_SOURCES: Final[Mapping[str, Source]] = {
    "ains_task_oldest_pending_timestamp_seconds": _RUNNABLE,
    "ains_agent_tasks_completed_total": _TASKS,
    "ains_agent_tasks_failed_total": _TASKS,
}


class Example(NamedTuple):
    """A question and the PromQL that answers it."""

    question: str
    query: str


@dataclass(frozen=True, slots=True)
class Entry:
    """All there is to say of a family without asking the database."""

    family: Family
    subject: str
    source: Source
    meaning: str
    labels: Mapping[str, str]
    """What each label means."""
    examples: tuple[Example, ...]

    @property
    def unit(self) -> str:
        """Of its values; empty when they are just numbers."""
        if self.family.name.endswith("_timestamp_seconds"):
            return "Unix time in seconds"
        return "seconds" if self.family.base_name.endswith("_seconds") else ""

    @property
    def view(self) -> str | None:
        """The view that shows it in SQL."""
        return f"metrics.{self.family.name}" if self.source.in_database else None

    @property
    def buckets(self) -> list[str]:
        """Values of ``le``."""
        family = self.family
        return [*(format_number(float(b)) for b in family.bounds), "+Inf"] if family.bounds else []

    @property
    def samples(self) -> int:
        """How many series of Prometheus each set of label values is."""
        return len(self.family.bounds) + 3 if self.family.kind == "histogram" else 1

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.family.name,
            "type": self.family.kind,
            "subject": self.subject,
            "help": self.family.help,
            "meaning": self.meaning,
            "labels": [{"name": name, "meaning": text} for name, text in self.labels.items()],
            "unit": self.unit,
            "buckets": self.buckets,
            "source": self.source.name,
            "view": self.view,
            "examples": [example._asdict() for example in self.examples],
        }


def catalog() -> Iterator[Entry]:
    """Yield every family, by subject.

    Raises:
        KeyError: `catalog_texts` says nothing of a family or a label.
    """
    for subject in SUBJECTS:
        for family in subject.families:
            name = family.name
            labels = {
                label: LABELS.get(f"{name}.{label}") or LABELS[label] for label in family.labels
            }
            examples = tuple(Example(*example) for example in EXAMPLES[name])
            source = _SOURCES.get(name, subject.source)
            yield Entry(family, subject.name, source, MEANINGS[name], labels, examples)


def find(name: str) -> Entry | None:
    """The family of this name, or with samples of this name."""
    for entry in catalog():
        family = entry.family
        if name in (family.name, family.base_name, *family.sample_names):
            return entry
    return None


def closest(name: str) -> list[str]:
    """Families whose names are like ``name``, or have it in them."""
    names = [entry.family.name for entry in catalog()]
    containing = [known for known in names if name and name.lower() in known]
    return list(dict.fromkeys([*get_close_matches(name, names, 3, _CLOSE), *containing]))[:8]
