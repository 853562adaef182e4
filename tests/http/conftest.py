from collections.abc import AsyncIterator

import pytest

from tests.http.sample import Sample, running


@pytest.fixture
async def sample() -> AsyncIterator[Sample]:
    """The sample application on a real port."""
    async with running() as running_sample:
        yield running_sample
