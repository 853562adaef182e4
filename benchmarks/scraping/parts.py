"""What our scrape's time is spent on: ``python -m benchmarks.scraping.parts``.

Scrapes the database of ``BENCH_DATABASE_URL`` in this process, without HTTP, and prints JSON:
medians in milliseconds. *waiting* is time in which this process had nothing to do but wait for
PostgreSQL, *build* what it did itself to read and add up rows, both during `Scraper.scrape`.
"""

import gc
import json
import os
from statistics import median
from time import perf_counter, process_time

import uvloop

from ains.metrics import database_scraper
from ains.settings import Settings
from collectors.exposition import all_metrics, compressed, render
from collectors.negotiation import TEXT

_SCRAPES = 200
_WARMUP = 20


async def _parts() -> dict[str, float]:
    scraper = database_scraper(Settings(), os.environ["BENCH_DATABASE_URL"])
    found: dict[str, list[float]] = {}
    try:
        gc.collect()
        gc.freeze()
        for number in range(_WARMUP + _SCRAPES):
            if number == _WARMUP:
                found.clear()
            own, start = process_time(), perf_counter()
            snapshot = await scraper.scrape()
            own, wall = process_time() - own, perf_counter() - start
            if not snapshot.up:
                raise RuntimeError("the database did not answer")
            start = perf_counter()
            body = render(all_metrics(scraper, snapshot, TEXT), TEXT)
            rendered = perf_counter()
            await compressed([body])
            packed = perf_counter()
            found.setdefault("waiting", []).append(wall - own)
            found.setdefault("build", []).append(own)
            found.setdefault("render", []).append(rendered - start)
            found.setdefault("gzip", []).append(packed - rendered)
    finally:
        await scraper.close()
    return {name: 1000 * median(seconds) for name, seconds in found.items()}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_parts())))
