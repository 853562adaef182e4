"""How the application is served."""

from uuid import UUID

from aiohttp import ClientSession, web
from yarl import URL

from ains.http.handler import add_routes
from ains.http.server import make_runner
from collectors.http import HttpMetrics
from tests.http.sample import agents


async def test_a_thousand_ids_fit_a_query_string_however_they_are_encoded() -> None:
    ids = ",".join(str(UUID(int=n)) for n in range(1000))
    encoded = ids.replace(",", "%2C").replace("-", "%2D")
    app = web.Application()
    add_routes(app, agents, around=(HttpMetrics().wrap,))
    runner = make_runner(app, shutdown_grace=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}/agents?text={encoded}", encoded=True)
        async with ClientSession() as client, client.get(url) as response:
            assert response.status == 200
            assert (await response.json())["text"] == ids
    finally:
        await runner.cleanup()
