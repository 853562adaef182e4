"""/docs and /metrics/catalog in a real browser that can reach nothing but this server."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.support.serving import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")


def _browse(url: str, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what they complained about."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", f"--user-data-dir={profile}"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *("--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", url),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    # Chromium's own pages, chrome://…, speak too.
    ours = re.compile(rf"CONSOLE.*, source: {re.escape(url.partition('/docs')[0])}/")
    return run.stdout, [line for line in run.stderr.splitlines() if ours.search(line)]


@needs_chromium
async def test_the_docs_page_works_without_a_network(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url=database_url) as server, aiohttp.ClientSession() as http:
        url = server.url
        async with http.get(f"{url}/openapi.json") as response:
            paths = (await response.json())["paths"]
        dom, complaints = await asyncio.to_thread(_browse, f"{url}/docs", tmp_path / "a")
        one = f"{url}/docs#/Tasks/tasks_submit"
        opened, _ = await asyncio.to_thread(_browse, one, tmp_path / "b")

    assert complaints == []
    documented = {(method, path) for path, methods in paths.items() for method in methods}
    shown = re.findall(r'class="opblock opblock-(\w+)".*?data-path="([^"]+)"', dom)
    assert set(shown) == documented
    assert ("post", "/ains/tasks") in shown
    assert "Loading" not in dom
    # Nothing would come from elsewhere if it could.
    sources = re.findall(r'<(?:script|img)[^>]+src="([^"]+)"|<link[^>]+href="([^"]+)"', dom)
    assert [s for pair in sources for s in pair if s and not s.startswith(("/", "data:"))] == []

    # An operation can be opened and tried: its fields and the button are there.
    assert 'class="opblock opblock-post is-open"' in opened
    for text in ("capability_required", "routing_strategy", "Execute"):
        assert text in opened, text


@needs_chromium
async def test_the_catalog_is_searched_in_the_browser(database_url: str, tmp_path: Path) -> None:
    async with serving(database_url=database_url) as server:
        url = f"{server.url}/metrics/catalog?q=AGENT_id%20counter"
        dom, complaints = await asyncio.to_thread(_browse, url, tmp_path / "c")

    assert complaints == []
    rows = dict(re.findall(r'<tr id="(ains_\w+)"( hidden="")?>', dom))
    assert len(rows) > 40
    assert {name for name, hidden in rows.items() if not hidden} == {
        "ains_tasks_completed_total",
        "ains_agent_tasks_completed_total",
        "ains_agent_tasks_failed_total",
    }
    assert f">3 of {len(rows)}</output>" in dom
    assert re.findall(r'<tbody id="([\w-]+)">', dom) == ["tasks", "agents"]
    assert dom.count(">Copy</button>") == dom.count("<figure>")
