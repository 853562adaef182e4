"""Months pass in a minute, everything breaks meanwhile, and no scrape is ever wrong."""

import os

from tests.torture import broken
from tests.torture.run import Verdict, torture

SEED = int(os.environ.get("AINS_TEST_TORTURE_SEED", "4"))
"""All decisions follow from it; what gets in whose way doesn't."""
FACTS = 200_000


def told(verdict: Verdict) -> str:
    return f"AINS_TEST_TORTURE_SEED={verdict.seed}: {verdict}"


async def test_every_scrape_is_right_whatever_happens() -> None:
    verdict = await torture(SEED, FACTS)
    assert verdict.complaints == [], told(verdict)
    assert verdict.differences == [], told(verdict)
    assert verdict.disagreements == [], told(verdict)
    assert verdict.facts >= FACTS
    assert verdict.kept < FACTS / 2
    assert verdict.dropped > 50
    assert verdict.rotations > 0
    for scrapes in verdict.scrapes.values():
        assert scrapes.total() > 50


async def test_fold_in_two_transactions_is_caught() -> None:
    verdict = await torture(SEED, FACTS, broken.in_two_transactions)
    assert any("went down" in complaint for complaint in verdict.complaints), told(verdict)


async def test_fold_that_leaves_a_contribution_out_is_caught() -> None:
    verdict = await torture(SEED, FACTS, broken.without_retries)
    assert any("went down" in complaint for complaint in verdict.complaints), told(verdict)
    assert {d.family for d in verdict.differences} == {"ains_task_retries_total"}, told(verdict)
