"""The HTTP families, counted by requests over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ains.http.problems import is_gone
from collectors.http import BUCKETS, HttpCollector, HttpMetrics
from tests.http.raw import exchange
from tests.http.sample import Sample, running

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def sample() -> AsyncIterator[Sample]:
    """The sample application on a real port."""
    async with running() as running_sample:
        yield running_sample


def scraped(metrics: HttpMetrics) -> Samples:
    """Render as a scrape does, and parse that."""
    registry = CollectorRegistry()
    registry.register(HttpCollector(metrics))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(metrics: HttpMetrics) -> dict[tuple[str, str, str], float]:
    """Return ains_http_requests_total by (method, endpoint, status)."""
    found = {}
    for (name, labels), value in scraped(metrics).items():
        if name == "ains_http_requests_total":
            by_name = dict(labels)
            found[by_name["method"], by_name["endpoint"], by_name["status_code"]] = value
    return found


def in_progress(metrics: HttpMetrics, endpoint: str) -> float:
    key = ("ains_http_requests_in_progress", (("endpoint", endpoint), ("method", "GET")))
    return scraped(metrics).get(key, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_requests_count_by_template_method_and_status(sample: Sample) -> None:
    for path in ("/agents/a", "/agents/b", "/agents/first", "/agents?limit=0", "/docs/assets/x"):
        await sample.get(path)
    await sample.post({"agent_id": "a"})
    async with sample.client.head("/agents/a"):
        pass
    assert requests(sample.metrics) == {
        ("GET", "/agents/{agent_id}", "200"): 2,
        ("HEAD", "/agents/{agent_id}", "200"): 1,
        ("GET", "/agents/first", "200"): 1,
        ("GET", "/agents", "422"): 1,
        ("POST", "/agents", "200"): 1,
        ("GET", "/docs/assets/{name}", "404"): 1,
    }


async def test_paths_without_a_route_share_one_endpoint(sample: Sample) -> None:
    for path in ("/nowhere", "/x/y", "/favicon.ico", "/agents/a/b"):
        await sample.get(path)
    assert requests(sample.metrics) == {("GET", "unmatched", "404"): 4}


async def test_a_wrong_method_counts_at_its_path(sample: Sample) -> None:
    for method in ("PUT", "PATCH", "PUT"):
        async with sample.client.request(method, "/agents/a"):
            pass
    assert requests(sample.metrics) == {
        ("PUT", "/agents/{agent_id}", "405"): 2,
        ("PATCH", "/agents/{agent_id}", "405"): 1,
    }


async def test_unknown_methods_share_one_label(sample: Sample) -> None:
    for method in (b"PROPFIND", b"MKCOL", b"REPORT"):
        for path in (b"/agents", b"/nowhere"):
            message = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (method, path)
            await exchange(sample.port, message)
    assert requests(sample.metrics) == {
        ("OTHER", "/agents", "405"): 3,
        ("OTHER", "unmatched", "404"): 3,
    }


async def test_the_scrape_itself_is_not_counted(sample: Sample) -> None:
    async with sample.client.get("/metrics") as response:
        assert response.status == 200
    async with sample.client.post("/metrics") as response:
        assert response.status == 405
    assert scraped(sample.metrics) == {}


async def test_a_handler_that_raises_counts_as_500(sample: Sample) -> None:
    await sample.get("/broken")
    assert requests(sample.metrics) == {("GET", "/broken", "500"): 1}
    assert in_progress(sample.metrics, "/broken") == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError(), "500"), (web.HTTPConflict(), "409"), (asyncio.CancelledError(), "499")],
)
async def test_an_error_that_nobody_handles_is_counted_and_passed_on(
    error: BaseException, status: str
) -> None:
    metrics = HttpMetrics()

    async def handler(request: web.Request) -> web.StreamResponse:
        raise error

    with pytest.raises(type(error)):
        await metrics.wrap(handler, "GET", "/x")(_request())
    assert requests(metrics) == {("GET", "/x", status): 1}


@pytest.mark.parametrize("handler_cancellation", [True, False])
async def test_a_client_that_leaves_counts_as_499(handler_cancellation: bool) -> None:
    async with running(handler_cancellation=handler_cancellation) as sample:
        leaving = asyncio.ensure_future(sample.client.get("/wait", timeout=ClientTimeout(total=30)))
        await until(lambda: bool(sample.waiting))
        assert in_progress(sample.metrics, "/wait") == 1
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        if not handler_cancellation:
            await until(lambda: is_gone(sample.waiting[0]))
            sample.gate.set()
        await until(lambda: in_progress(sample.metrics, "/wait") == 0)
        assert requests(sample.metrics) == {("GET", "/wait", "499"): 1}
        assert (await sample.get("/health"))[0] == 200


async def test_requests_in_progress_are_counted_while_they_are(sample: Sample) -> None:
    waiting = [asyncio.ensure_future(sample.get("/wait")) for _ in range(3)]
    await until(lambda: in_progress(sample.metrics, "/wait") == 3)
    assert requests(sample.metrics) == {}
    sample.gate.set()
    await asyncio.gather(*waiting)
    assert in_progress(sample.metrics, "/wait") == 0
    assert requests(sample.metrics) == {("GET", "/wait", "200"): 3}


async def test_a_stream_counts_when_it_ends(sample: Sample) -> None:
    async with sample.client.get("/stream") as response:
        assert await response.content.readexactly(1) == b"a"
        assert in_progress(sample.metrics, "/stream") == 1
        sample.gate.set()
        assert await response.content.read() == b"b"
    await until(lambda: in_progress(sample.metrics, "/stream") == 0)
    assert requests(sample.metrics) == {("GET", "/stream", "200"): 1}


async def test_a_stream_whose_reader_leaves_counts_as_499(sample: Sample) -> None:
    response = await sample.client.get("/stream")
    response.close()
    await until(lambda: is_gone(sample.waiting[0]))
    sample.gate.set()
    await until(lambda: bool(requests(sample.metrics)))
    assert requests(sample.metrics) == {("GET", "/stream", "499"): 1}


class Clock:
    """Gives each request the next of the durations."""

    def __init__(self, *durations: float) -> None:
        self._times = [t for duration in durations for t in (0.0, duration)]

    def __call__(self) -> float:
        return self._times.pop(0)


def _request() -> Any:
    class Transport:
        def is_closing(self) -> bool:
            return False

    class Request:
        method = "GET"
        transport = Transport()

    return Request()


async def test_durations_fall_into_the_contract_s_buckets() -> None:
    durations = (0.001, 0.005, 0.0051, 0.2, 1.0, 10.0, 11.0)
    metrics = HttpMetrics(clock=Clock(*durations))

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    wrapped: Callable[[Any], Awaitable[Any]] = metrics.wrap(handler, "GET", "/x")
    for _ in durations:
        await wrapped(_request())
    labels = {"method": "GET", "endpoint": "/x"}
    found = scraped(metrics)
    counts = {
        dict(key)["le"]: value
        for (name, key), value in found.items()
        if name == "ains_http_request_duration_seconds_bucket"
    }
    assert counts == {
        "0.005": 2,
        "0.01": 3,
        "0.025": 3,
        "0.05": 3,
        "0.1": 3,
        "0.25": 4,
        "0.5": 4,
        "1.0": 5,
        "2.5": 5,
        "5.0": 5,
        "10.0": 6,
        "+Inf": 7,
    }
    key = tuple(sorted(labels.items()))
    assert found["ains_http_request_duration_seconds_sum", key] == pytest.approx(sum(durations))
    assert found["ains_http_request_duration_seconds_count", key] == len(durations)
    assert len(BUCKETS) == 11


async def test_the_histogram_agrees_with_the_counter(sample: Sample) -> None:
    paths = [f"/agents/{n}" for n in range(17)] + ["/broken", "/nowhere", "/agents?limit=0"]
    await asyncio.gather(*(sample.get(path) for path in paths))
    found = scraped(sample.metrics)
    counted = sum(v for (name, _), v in found.items() if name == "ains_http_requests_total")
    timed = sum(
        v for (name, _), v in found.items() if name == "ains_http_request_duration_seconds_count"
    )
    assert counted == timed == 20


def test_the_families_are_described_without_a_request() -> None:
    families = {f.name: (f.type, f.documentation) for f in HttpCollector(HttpMetrics()).describe()}
    assert {name: kind for name, (kind, _) in families.items()} == {
        "ains_http_requests": "counter",
        "ains_http_request_duration_seconds": "histogram",
        "ains_http_requests_in_progress": "gauge",
    }
    assert all(documentation for _, documentation in families.values())


def test_label_names_are_those_of_the_contract() -> None:
    metrics = HttpMetrics()
    metrics._of("GET", "/x").statuses[200] = 1
    metrics._of("GET", "/x").buckets[0] = 1
    names = {
        name: {label for label, _ in labels} - {"le"}
        for (name, labels), _ in scraped(metrics).items()
    }
    assert names["ains_http_requests_total"] == {"method", "endpoint", "status_code"}
    assert names["ains_http_request_duration_seconds_bucket"] == {"method", "endpoint"}
    assert names["ains_http_requests_in_progress"] == {"method", "endpoint"}
