"""The yardstick: what aiohttp and asyncpg do when nothing is asked of them but the minimum.

``python -m benchmarks.http_api.bare PORT``. POST /insert does one INSERT into a narrow table of the
database AINS_DATABASE_URL, that AINS writes to as well.
"""

import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Final
from uuid import uuid4

import asyncpg
import uvloop
from aiohttp import web

_POOL: Final = web.AppKey("pool", asyncpg.Pool)
_POOL_SIZE: Final = 10  # what asyncpg suggests, and what suits it best here
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS bare_tasks (
        task_id uuid PRIMARY KEY, client_id text NOT NULL, task_type text NOT NULL,
        capability_required text NOT NULL, priority smallint NOT NULL, input_data json NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
"""
_INSERT: Final = """
    INSERT INTO bare_tasks
        (task_id, client_id, task_type, capability_required, priority, input_data)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
_HEALTH: Final = {"status": "healthy", "service": "AINS", "version": "0.1.0"}


async def _health(_: web.Request) -> web.Response:
    return web.json_response(_HEALTH)


async def _insert(request: web.Request) -> web.Response:
    body = await request.json()
    task_id = uuid4()
    await request.app[_POOL].execute(
        _INSERT,
        task_id,
        body["client_id"],
        body["task_type"],
        body["capability_required"],
        body["priority"],
        json.dumps(body["input_data"]),
    )
    return web.json_response({"task_id": str(task_id), "status": "PENDING"})


def _app(dsn: str) -> web.Application:
    async def pool(app: web.Application) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=2, max_size=_POOL_SIZE) as pool:
            await pool.execute(_TABLE)
            app[_POOL] = pool
            yield

    app = web.Application()
    app.cleanup_ctx.append(pool)
    app.router.add_get("/health", _health)
    app.router.add_post("/insert", _insert)
    return app


def main() -> None:
    """Serve until interrupted."""
    port, dsn = int(sys.argv[1]), os.environ["AINS_DATABASE_URL"]
    gc.freeze()
    web.run_app(
        _app(dsn),
        host="127.0.0.1",
        port=port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
