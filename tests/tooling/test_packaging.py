"""The wheel holds what the service needs at run time, and the environment is pinned in full."""

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]


def _files(*folders: str) -> set[str]:
    """Paths below ``folders``, from the top of the tree, without the interpreter's own."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _shipped(path: str) -> str:
    return f"ains/_alembic/{path}" if path.startswith("alembic") else path


def test_wheel_holds_both_packages_and_the_migrations(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        contents = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = _files("ains", "collectors", "alembic") | {"alembic.ini"}
    assert contents == {_shipped(path) for path in sources}
    assert {"ains/py.typed", "collectors/py.typed"} <= contents
    assert any(name.startswith("ains/_alembic/alembic/versions/") for name in contents)


def test_constraints_pin_everything_that_is_installed_for_development() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}
    needed = {name: f"=={dist.version}" for name, dist in _needed_by("ains", {"dev"}).items()}
    del needed[canonicalize_name("ains")]
    assert {name: pinned.get(name) for name in needed} == needed


def _needed_by(
    name: str, extras: set[str], found: dict[NormalizedName, Distribution] | None = None
) -> dict[NormalizedName, Distribution]:
    """The distributions that ``name`` with ``extras`` needs here, itself included, by name."""
    found = {} if found is None else found
    known = canonicalize_name(name) in found
    found[canonicalize_name(name)] = dist = distribution(name)
    if known and not extras:
        return found
    for text in dist.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}
        ):
            _needed_by(requirement.name, requirement.extras, found)
    return found
