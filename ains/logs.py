"""Structured logs: JSON lines for machines, colours for people on a terminal, one way out for all.

What the libraries log by `logging` (aiohttp, asyncpg, alembic) takes the same way as our own. Every
line has the id of the request that it belongs to, and none has the password of a connection string.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from ains.redact import may_have_password, redact

__all__ = ["Format", "Throttle", "configure", "get_logger", "request_id"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the current task serves."""

Format = Literal["auto", "json", "console"]
_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical"}


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger ``name``: ``log.info("agent registered", agent_id=…)``.

    It looks up the configuration at each call; what logs for every request does
    ``get_logger(name).bind()`` once, after `configure`.
    """
    logger: FilteringBoundLogger = structlog.get_logger(module=name)
    return logger


def configure(level: str = "info", style: Format = "auto", stream: TextIO | None = None) -> None:
    """Send all logs of the process to ``stream`` (stderr: stdout is for results of commands).

    ``style`` ``auto`` means ``console`` when the stream is a terminal, else ``json``.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    console = style == "console" or (style == "auto" and out.isatty())
    finish: list[Processor] = [_complete, _console(out)] if console else [_complete, _to_json]
    structlog.configure(
        processors=finish,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(_is_ours)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_module],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # Each says much of its own work at INFO, and little of use to who runs AINS.
    for chatty in ("asyncio", "alembic.runtime.plugins"):
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))


class Throttle:
    """Lets one line of each kind through in ``seconds``: an outage must not fill the disk."""

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of ``kind`` were held back before this one; None holds it back.

        Kinds are never forgotten, so there should be few.
        """
        now = self._clock()
        since, held = self._kinds.get(kind, (float("-inf"), 0))
        if now - since < self._seconds:
            self._kinds[kind] = since, held + 1
            return None
        self._kinds[kind] = now, 0
        return held


class _Lines:
    """The end of the pipe: one write for each line, so that lines never mix."""

    def __init__(self, out: TextIO) -> None:
        self._write = out.write
        self._flush = out.flush

    def msg(self, line: str) -> None:
        self._write(line + "\n")
        self._flush()

    debug = info = warning = error = critical = exception = msg


def _complete(_logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Add what every line has."""
    line: EventDict = {
        "timestamp": datetime.now(UTC),
        "level": _LEVELS.get(name, name),
        "event": event.pop("event", ""),
    }
    current = request_id.get()
    if current is not None:
        line["request_id"] = current
    if "exc_info" in event:
        # Plain: prettier tracebacks show local variables, and passwords are among them.
        event = structlog.processors.format_exc_info(_logger, name, event)
    line.update(event)
    return line


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out what aiohttp logs, with a traceback, when a peer does not speak HTTP or goes away.

    Any port scanner could fill the disk with it.
    """
    if not record.exc_info or record.name != "aiohttp.server":
        return True
    error = record.exc_info[1]
    return not (isinstance(error, OSError) or type(error).__module__.startswith("aiohttp."))


def _add_module(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["module"] = record.name
    return event


def _console(out: TextIO) -> Processor:
    render = structlog.dev.ConsoleRenderer(colors=out.isatty())

    def to_text(logger: WrappedLogger, name: str, event: EventDict) -> str:
        event["timestamp"] = f"{event['timestamp'].astimezone():%H:%M:%S.%f}"[:-3]
        return render(logger, name, _redacted(event))

    return to_text


def _to_json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    text = _dump(event)
    # Looking at the line as a whole is cheaper than at each value; most lines have no URL.
    return _dump(_redacted(event)) if may_have_password(text) else text


def _dump(event: EventDict) -> str:
    try:
        return orjson.dumps(event, str, orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(event, default=str)


def _redacted(event: EventDict) -> EventDict:
    return {
        key: redact(value if isinstance(value, str) else str(value))
        if may_have_password(str(value))
        else value
        for key, value in event.items()
    }
