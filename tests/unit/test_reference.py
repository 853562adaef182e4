"""docs/reference/ says what the code says."""

import pytest

from docs.make_reference import HERE, pages


@pytest.mark.parametrize("name", sorted(pages()))
def test_reference_page_is_up_to_date(name: str) -> None:
    written = (HERE / name).read_text("utf-8")
    assert written == pages()[name], "run scripts/docs"
