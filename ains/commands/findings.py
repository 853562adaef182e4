"""What `ains doctor` finds, and how it tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import click

__all__ = ["Finding", "age", "note", "ok", "problem", "show"]

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``advice`` says what to do."""

    level: Literal["ok", "note", "problem"]
    text: str
    advice: str | None = None


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def note(text: str, advice: str | None = None) -> Finding:
    """Something worth knowing; nothing is wrong."""
    return Finding("note", text, advice)


def problem(text: str, advice: str) -> Finding:
    """Something is wrong."""
    return Finding("problem", text, advice)


def show(findings: Iterable[Finding]) -> bool:
    """Print the findings; returns whether one is a problem."""
    wrong = False
    for finding in findings:
        mark = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
        click.echo(mark + finding.text.replace("\n", "\n" + " " * 8))
        if finding.advice:
            click.echo(" " * 8 + "→ " + finding.advice)
        wrong |= finding.level == "problem"
    return wrong


def age(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    for size, unit in ((172_800, 86_400), (7_200, 3_600), (120, 60)):
        if seconds >= size:
            names = {86_400: "days", 3_600: "h", 60: "min"}
            return f"{seconds / unit:.0f} {names[unit]}"
    return f"{seconds:.0f} s"
