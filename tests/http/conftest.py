from collections.abc import AsyncIterator, Iterator

import pytest

from tests.http.sample import Sample, running
from tests.support.logs import LogLines, captured, parsed


@pytest.fixture
async def sample() -> AsyncIterator[Sample]:
    """The sample application on a real port."""
    async with running() as running_sample:
        yield running_sample


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """What has been logged so far, a dict for each line."""
    with captured(level="info") as out:
        yield lambda: parsed(out)
