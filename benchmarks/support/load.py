"""A load generator that costs little: HTTP/1.1 over kept connections, parsed no more than needed.

Runs as a process of its own, ``python -m benchmarks.support.load``: one JSON object per line comes
in (`Order`), one goes out (`Report`). A closed loop: each client sends its next request when it has
the answer to the last one.
"""

import asyncio
import gc
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Any, Final, NotRequired, TypedDict, cast

import uvloop

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_UUID_CHARACTERS: Final = 36


class Order(TypedDict):
    """What to do: ``requests`` are sent again and again in turn, one round of them is a unit.

    In a request after the first, ``{task_id}`` and ``{agent_id}`` stand for what the answer to the
    first said. Statuses are counted for the whole run, everything else after ``warmup`` seconds.
    With a ``pause`` a client waits that many seconds before its next request.
    """

    port: int
    clients: int
    warmup: float
    seconds: float
    requests: list["Request"]
    pause: NotRequired[float]


class Request(TypedDict):
    """One request; ``body`` is JSON text or empty."""

    method: str
    path: str
    body: str
    headers: NotRequired[dict[str, str]]


class Report(TypedDict):
    """What happened: times in seconds; p50, p99 and worst are of the latency of single requests."""

    seconds: float
    requests: int
    units: int
    p50: float
    p99: float
    worst: float
    bad: dict[str, int]
    cpu: float


class _Run:
    def __init__(self, order: Order) -> None:
        self.requests = [_encode(request) for request in order["requests"]]
        self.pause = order.get("pause", 0.0)
        self.latencies: list[float] = []
        self.units = 0
        self.bad: Counter[str] = Counter()
        self.measuring = False
        self.over = False


def _encode(request: Request) -> Callable[[bytes, bytes], bytes]:
    """Return a function of task id and agent id that makes the bytes of a request."""
    body = request["body"].encode()
    lines = [f"{request['method']} {request['path']} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in request.get("headers", {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    raw = "\r\n".join([*lines, "", ""]).encode() + body
    if b"{task_id}" not in raw and b"{agent_id}" not in raw:
        return lambda _task, _agent: raw
    return lambda task, agent: raw.replace(b"{task_id}", task).replace(b"{agent_id}", agent)


class _Client(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = bytearray()
        self._length = 0  # of the whole answer, when that is known
        self._step = 0
        self._task = self._agent = b""
        self._sent = 0.0
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write  # uvloop's is no subclass
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._run.over:
            self._run.bad["connection lost"] += 1

    def _send(self) -> None:
        if self._run.over:
            return
        self._sent = perf_counter()
        self._write(self._run.requests[self._step](self._task, self._agent))

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._length:
                return
            data = bytes(self._buffer)
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if head >= 0 and length is None:
            raise ValueError(f"an answer without a length: {data[:head]!r}")
        if length is None or len(data) < head + 4 + int(length[1]):
            self._buffer = bytearray(data)
            self._length = head + 4 + int(length[1]) if length else 0
            return
        self._buffer, self._length = bytearray(), 0
        self._answered(data, head)

    def _answered(self, data: bytes, head: int) -> None:
        run = self._run
        if run.over:
            return
        if run.measuring:
            run.latencies.append(perf_counter() - self._sent)
        good = data[9] == 50
        if not good:
            run.bad[data[9:12].decode()] += 1
        if good and self._step == 0 and len(run.requests) > 1:
            good = self._remember(data, head)
        self._step = (self._step + 1) % len(run.requests) if good else 0
        if good and self._step == 0 and run.measuring:
            run.units += 1
        if run.pause:
            asyncio.get_running_loop().call_later(run.pause, self._send)
        else:
            self._send()

    def _remember(self, data: bytes, head: int) -> bool:
        at = data.index(b'"task_id":"', head) + 11
        self._task = data[at : at + _UUID_CHARACTERS]
        at = data.find(b'"assigned_agent_id":"', head) + 21
        if at < 21:
            self._run.bad["not assigned"] += 1
            return False
        self._agent = data[at : data.index(b'"', at)]
        return True


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """By the nearest rank."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def _give_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that failed makes the whole measurement worthless."""
    loop.default_exception_handler(context)
    os._exit(1)


async def carry_out(order: Order) -> Report:
    """Put a server under load and report."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_give_up)
    run = _Run(order)
    transports = [
        (await loop.create_connection(lambda: _Client(run), "127.0.0.1", order["port"]))[0]
        for _ in range(order["clients"])
    ]
    await asyncio.sleep(order["warmup"])
    run.measuring = True
    start, cpu = perf_counter(), process_time()
    await asyncio.sleep(order["seconds"])
    run.measuring, run.over = False, True
    seconds, cpu = perf_counter() - start, process_time() - cpu
    for transport in transports:
        transport.close()
    latencies = sorted(run.latencies)
    return {
        "seconds": seconds,
        "requests": len(latencies),
        "units": run.units,
        "p50": _percentile(latencies, 50),
        "p99": _percentile(latencies, 99),
        "worst": latencies[-1] if latencies else 0.0,
        "bad": dict(run.bad),
        "cpu": cpu,
    }


def main() -> None:
    """Carry out orders from standard input until it ends."""
    gc.disable()  # pauses of ours must not look like the server's
    for line in sys.stdin:
        print(json.dumps(uvloop.run(carry_out(json.loads(line)))), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
