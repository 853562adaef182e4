"""Every family of the contract, with its type, labels and HELP, in what --demo shows."""

import asyncio
import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import Server, serving

GOLDEN = Path(__file__).with_name("families.txt")
_SUFFIXES = {"counter": "_total", "gauge": "", "histogram": ""}


def families(text: str) -> set[str]:
    """A line for each family that has a sample: name, type, labels, HELP."""
    lines = set()
    for metric in text_string_to_metric_families(text):
        labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        if metric.samples:
            name = metric.name + _SUFFIXES[metric.type]
            lines.add(f"{name} {metric.type} [{', '.join(labels)}] {metric.documentation}")
    return lines


async def until_all_moved(server: Server, wanted: set[str], seconds: float) -> tuple[set[str], str]:
    """What was seen, and the last scrape; some gauges are there only while tasks wait."""
    seen: set[str] = set()
    text = ""
    try:
        async with asyncio.timeout(seconds):
            while not seen >= wanted:
                _, _, text = await server.get("/metrics")
                seen |= families(text)
                await asyncio.sleep(0.3)
    except TimeoutError:
        pass
    return seen, text


async def test_demo_moves_every_family_of_the_contract(service_url: str, scraper_url: str) -> None:
    """Also with no more rights than the service and Prometheus are given."""
    wanted = set(GOLDEN.read_text("utf-8").splitlines())
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    async with serving(
        "--demo",
        database_url=service_url,
        metrics_database_url=scraper_url,
        log_level="warning",
    ) as server:
        seen, text = await until_all_moved(server, wanted, 30)
        assert seen == wanted
        assert "refuses AINS" not in server.output
    process = await asyncio.create_subprocess_exec(
        promtool,
        "check",
        "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(text.encode())
    # The one name that the contract fixes against promtool's advice.
    assert output.decode().splitlines() == [
        'ains_agents_total non-counter metrics should not have "_total" suffix'
    ]
