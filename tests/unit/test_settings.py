import os
from typing import Any

import pytest
from pydantic import ValidationError

from ains.database_url import DatabaseUrl
from ains.errors import SettingsError
from ains.settings import Settings

SECRET = "hunter2"
URL = f"postgresql://joe:{SECRET}@db:5432/ains"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("AINS_"):
            monkeypatch.delenv(name)


def mistakes(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    """Return the lines of the error that loading ``environment`` raises."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    first, *lines = str(caught.value).splitlines()
    assert first == "The configuration has mistakes:"
    return [line.strip() for line in lines]


def test_defaults_need_no_environment() -> None:
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_url is None
    assert settings.agent_ttl == 60
    assert settings.heartbeat_interval == 30


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_PORT", "9000")
    monkeypatch.setenv("AINS_HOST", "0.0.0.0")
    monkeypatch.setenv("AINS_WORKERS", "no")
    monkeypatch.setenv("AINS_LOG_LEVEL", "DEBUG")
    settings = Settings.load(port=9001, host=None, workers=None)
    assert (settings.port, settings.host, settings.workers) == (9001, "0.0.0.0", False)
    assert settings.log_level == "debug"


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_DATABASE_URL", "")
    assert Settings.load().database_url is None


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = mistakes(
        monkeypatch,
        AINS_PORT="x",
        AINS_AGENT_TTL="0",
        AINS_WORKERS="maybe",
        AINS_LOG_FORMAT="xml",
        AINS_DATABSE_URL="x",
    )
    assert len(lines) == 5
    assert any(line.startswith("AINS_PORT: ") and "it is 'x'" in line for line in lines)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("AINS_DATABSE_URL", "AINS_DATABASE_URL"),
        ("AINS_DB_URL", "AINS_DATABASE_URL"),
        ("AINS_LOGLEVEL", "AINS_LOG_LEVEL"),
        ("ains_prot", "AINS_PORT"),
        ("AINS_AGENTS_TTL", "AINS_AGENT_TTL"),
        ("AINS_POOL_MAXIMUM", "AINS_POOL_MAX"),
    ],
)
def test_a_mistyped_variable_names_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    [line] = mistakes(monkeypatch, **{wrong: "1"})
    assert line == f"{wrong}: no such setting exists; did you mean {right}?"


def test_a_variable_like_no_other_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = mistakes(monkeypatch, AINS_QQQQQQQQ="1")
    assert "no such setting" in line
    assert "did you mean" not in line


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Kubernetes sets in every pod beside a service called "ains".
    for name, value in {
        "AINS_SERVICE_HOST": "10.0.0.1",
        "AINS_SERVICE_PORT": "80",
        "AINS_SERVICE_PORT_HTTP": "80",
        "AINS_PORT": "tcp://10.0.0.1:80",
        "AINS_PORT_80_TCP": "tcp://10.0.0.1:80",
        "AINS_PORT_80_TCP_ADDR": "10.0.0.1",
        "AINS_TEST_DATABASE_URL": URL,
        "AINSWORTH": "x",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings.load().port == 8000


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"AINS_POOL_MIN": "5", "AINS_POOL_MAX": "4"}, "AINS_POOL_MIN"),
        ({"AINS_AGENT_TTL": "5", "AINS_HEARTBEAT_INTERVAL": "5"}, "AINS_HEARTBEAT_INTERVAL"),
    ],
)
def test_values_that_do_not_fit_each_other_are_mistakes(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    [line] = mistakes(monkeypatch, **environment)
    assert line.startswith(told)


def test_the_heartbeat_interval_follows_the_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_AGENT_TTL", "4")
    assert Settings.load().heartbeat_interval == 2


def test_the_password_shows_nowhere_but_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_DATABASE_URL", URL)
    monkeypatch.setenv("AINS_METRICS_DATABASE_URL", URL)
    settings = Settings.load()
    assert settings.database_url
    assert settings.database_url.reveal() == URL
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    shown += [str(info) for info in settings.describe()]
    assert SECRET not in "".join(shown)
    assert "postgresql://joe:***@db:5432/ains" in repr(settings)


@pytest.mark.parametrize(
    "value",
    [
        f"joe:{SECRET}@db/ains",
        f"mysql://joe:{SECRET}@db/ains",
        f"postgresql://joe:{SECRET}@db:port/ains",
        f"host=db password={SECRET}",
        f"postgresql://joe:{SECRET}@[::1/ains",
    ],
)
def test_a_wrong_url_is_told_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    [line] = mistakes(monkeypatch, AINS_DATABASE_URL=value)
    assert line.startswith("AINS_DATABASE_URL: must be a URL such as postgresql://")
    assert SECRET not in line
    with pytest.raises(ValidationError) as caught:
        Settings(database_url=value)  # type: ignore[arg-type]  # as text, as the environment has it
    assert SECRET not in str(caught.value)


def test_a_url_may_name_sqlalchemy_s_driver() -> None:
    url = DatabaseUrl("postgresql+asyncpg://joe:pw@db/x")
    assert url.reveal() == "postgresql://joe:pw@db/x"
    assert str(url) == "postgresql://joe:***@db/x"
    assert url == DatabaseUrl("postgresql://joe:pw@db/x")


def test_database_url_may_name_standbys() -> None:
    url = DatabaseUrl("postgresql://joe:pw@a:5432,b,[::1]:5433/x?target_session_attrs=read-write")
    assert str(url) == "postgresql://joe:***@a:5432,b,[::1]:5433/x?target_session_attrs=read-write"
    with pytest.raises(ValueError, match="must be a URL"):
        DatabaseUrl("postgresql://joe:pw@a:5432,b:x/x")


def test_settings_cannot_be_changed() -> None:
    settings: Any = Settings.load()
    with pytest.raises(ValidationError):
        settings.port = 1


def test_each_setting_is_described_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINS_PORT", "9000")
    monkeypatch.setenv("AINS_HOST", "0.0.0.0")
    infos = {info.name: info for info in Settings.load(host="::1").describe()}
    assert set(infos) == set(Settings.model_fields)
    assert infos["port"][1:4] == ("AINS_PORT", "9000", "environment")
    assert infos["host"][1:4] == ("AINS_HOST", "::1", "argument")
    assert infos["agent_ttl"][1:4] == ("AINS_AGENT_TTL", "60.0", "default")
    assert infos["database_url"].value == ""
    assert all(info.doc.endswith(".") for info in infos.values())
