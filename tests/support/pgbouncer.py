"""A PgBouncer in transaction mode before a database."""

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from tests.support.live import free_port

PGBOUNCER = shutil.which("pgbouncer")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="apt-get install pgbouncer")

_CONFIG = """
[databases]
{name} = host={host} port={port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 100
"""


@asynccontextmanager
async def pgbouncer(dsn: str) -> AsyncIterator[str]:
    """Run PgBouncer before the database of ``dsn``; yields the DSN through it."""
    assert PGBOUNCER is not None
    place = urlsplit(dsn)
    name = place.path.lstrip("/")
    listen = free_port()
    with TemporaryDirectory(prefix="ains-pgbouncer-", dir="/tmp") as directory:
        config = Path(directory, "pgbouncer.ini")
        config.write_text(
            _CONFIG.format(
                name=name,
                host=place.hostname,
                port=place.port or 5432,
                user=unquote(place.username or "postgres"),
                password=f"password={unquote(place.password)}" if place.password else "",
                listen=listen,
            )
        )
        command = [PGBOUNCER, "--quiet", str(config)]
        if os.geteuid() == 0:  # which it refuses to run as
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            os.chown(config, nobody.pw_uid, nobody.pw_gid)
            command[1:1] = ["--user", "nobody"]
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            through = f"postgresql://any@127.0.0.1:{listen}/{name}"
            await _until_ready(through, process)
            yield through
        except BaseException as error:
            error.add_note(Path(directory, "log").read_text()[-2000:])
            raise
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 10)


async def _until_ready(dsn: str, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(10):
        while True:
            assert process.poll() is None, "PgBouncer has ended"
            try:
                connection = await asyncpg.connect(dsn, statement_cache_size=0)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return
