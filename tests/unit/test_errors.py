import pytest

from ains import errors
from ains.errors import AinsError, InvalidInput, NotFound, SettingsError, problem_types, quote


def test_the_docstring_is_the_default_message() -> None:
    assert errors.DatabaseUnavailable().detail == "The database can't be reached just now."
    assert str(errors.Forbidden("Only its owner may.")) == "Only its owner may."


def test_every_class_is_exported_and_documented() -> None:
    def all_of(cls: type[AinsError]) -> set[type[AinsError]]:
        return {cls}.union(*map(all_of, cls.__subclasses__()))

    own = {cls for cls in all_of(AinsError) if cls.__module__ == errors.__name__}
    exported = {getattr(errors, name) for name in errors.__all__}
    assert own - exported == {errors.RetryLater}
    assert all(cls.__doc__ for cls in own)


def test_slugs_are_unique_and_settings_are_no_problem_type() -> None:
    types = list(problem_types())
    assert len({cls.slug for cls in types}) == len(types)
    assert not any(issubclass(cls, SettingsError) for cls in types)
    assert errors.InternalError in types


@pytest.mark.parametrize(("seconds", "header"), [(0, "1"), (0.2, "1"), (1, "1"), (1.1, "2")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    error = errors.RateLimited(retry_after=seconds)
    assert error.headers() == {"Retry-After": header}
    assert error.status == 429


def test_allow_lists_the_methods_in_order() -> None:
    assert errors.MethodNotAllowed("PUT", ["POST", "GET"]).headers() == {"Allow": "GET, POST"}


def test_invalid_input_points_at_the_place() -> None:
    error = InvalidInput.at(["body", "tasks", 3], "must be different.", "duplicate")
    assert error.detail == "body.tasks.3: must be different."
    assert error.problem()["errors"] == [
        {"loc": ["body", "tasks", 3], "msg": "must be different.", "type": "duplicate"}
    ]


def test_ids_are_quoted_and_cut() -> None:
    assert NotFound.of("task", "a\nb").detail == r"No task has the id 'a\nb'."
    assert len(NotFound.of("task", "x" * 10_000).detail) < 120
    assert quote("\udc80") == r"'\udc80'"
