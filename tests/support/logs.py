"""Reads what is logged."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import structlog

from ains import logs

LogLines = Callable[[], list[dict[str, Any]]]


@contextmanager
def captured(
    style: Literal["json", "console"] = "json", level: str = "debug"
) -> Iterator[io.StringIO]:
    """Send all logs into the text that is yielded; put everything back afterwards."""
    root = logging.getLogger()
    handlers, number = list(root.handlers), root.level
    configuration = structlog.get_config()
    out = io.StringIO()
    try:
        logs.configure(level, style, out)
        yield out
    finally:
        structlog.configure(**configuration)
        root.handlers[:] = handlers
        root.setLevel(number)


def parsed(out: io.StringIO) -> list[dict[str, Any]]:
    """Return the JSON lines of ``out``."""
    return [json.loads(line) for line in out.getvalue().splitlines()]
