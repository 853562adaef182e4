"""schemathesis invents requests from /openapi.json: none ends in a 500 or breaks the schema."""

import asyncio
import subprocess
import sys
from pathlib import Path

from ains.client import AinsClient
from tests.support.serving import serving

SECONDS = 25
# Left out: positive_data_acceptance. What the schema allows, a rule may refuse (400), and NUL
# characters, which PostgreSQL's text can't hold, are 422 wherever they stand.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


async def test_nothing_that_schemathesis_invents_breaks_the_api(
    service_url: str, tmp_path: Path
) -> None:
    async with serving(database_url=service_url) as server:
        async with AinsClient(server.url) as ains:  # somebody to talk about
            await ains.agents.register("somebody", tags=["something"])
            await ains.agents.heartbeat("somebody")
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-time", str(SECONDS)),
            *("--generation-deterministic", "--no-color"),
        ]
        run = await asyncio.to_thread(
            subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr
        assert "Tested:" in run.stdout
        async with AinsClient(server.url) as ains:
            metrics = await ains.metrics()
    requests = [line for line in metrics.splitlines() if line.startswith("ains_http_requests_to")]
    assert len(requests) > 50
    assert not [line for line in requests if 'status_code="5' in line]
