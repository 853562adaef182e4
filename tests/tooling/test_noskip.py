"""AINS_TEST_NO_SKIP=1 lets no test be skipped unnoticed."""

import pytest

pytest_plugins = ["pytester"]

_SUITE = """
import pytest

@pytest.mark.skip(reason="by mark")
def test_mark(): ...

def test_call():
    pytest.skip("by call")

@pytest.mark.xfail(strict=True)
def test_expected_failure():
    assert False

def test_passes(): ...
"""


def _run(pytester: pytest.Pytester) -> pytest.RunResult:
    pytester.makepyfile(_SUITE)
    pytester.makepyfile(test_module="import pytest\npytest.importorskip('no_such_module')")
    return pytester.runpytest_subprocess("-p", "tests.plugins.noskip", "-p", "no:asyncio")


def test_skips_are_failures_when_asked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINS_TEST_NO_SKIP", "1")
    result = _run(pytester)
    # The module that skips itself stops the run already at collection.
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*this was skipped: could not import 'no_such_module'*"])

    pytester.path.joinpath("test_module.py").unlink()
    result = pytester.runpytest_subprocess("-p", "tests.plugins.noskip", "-p", "no:asyncio")
    result.assert_outcomes(errors=1, failed=1, passed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*this was skipped: by mark", "*this was skipped: by call"])


def test_skips_are_skips_otherwise(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AINS_TEST_NO_SKIP", raising=False)
    _run(pytester).assert_outcomes(skipped=3, passed=1, xfailed=1)
