"""Every error is a problem document, and none tells what the server thinks of itself."""

import asyncio
import gzip
import json
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from ains import errors
from ains.errors import AinsError, problem_types
from ains.http import parse
from ains.http.problems import problem_response
from tests.http.raw import exchange, status_of
from tests.http.sample import MAX_BODY, Sample

HEAD = b"Host: x\r\nConnection: close\r\n"


async def test_a_domain_error_becomes_its_problem(sample: Sample) -> None:
    async with sample.client.post("/agents", data=b'{"agent_id":"known"}') as response:
        assert response.status == 409
        assert response.headers["Content-Type"] == "application/problem+json"
        assert json.loads(await response.read()) == {
            "type": "/docs/problems/conflict",
            "title": "Conflict",
            "status": 409,
            "detail": "The agent id 'known' is taken.",
        }


async def test_database_away_is_503_with_retry_after(sample: Sample) -> None:
    async with sample.client.get("/away") as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "3"  # whole seconds, 2.5 rounded up


async def test_the_log_says_what_failed_and_why_the_client_does_not_learn(sample: Sample) -> None:
    with capture_logs() as logs:
        async with sample.client.get("/away") as response:
            assert "Connect call failed" not in await response.text()
    [entry] = [log for log in logs if log["event"] == "request failed"]
    assert (entry["method"], entry["path"]) == ("GET", "/away")
    assert entry["cause"] == "Connect call failed"
    assert entry["alike_before"] == 0


async def test_an_outage_is_not_logged_for_every_request(sample: Sample) -> None:
    with capture_logs() as logs:
        for _ in range(20):
            await sample.get("/away")
    assert [log["log_level"] for log in logs].count("warning") == 1


async def test_an_unexpected_error_says_nothing_and_is_logged(sample: Sample) -> None:
    with capture_logs() as logs:
        async with sample.client.get("/broken") as response:
            body = await response.text()
            name = response.headers["X-Request-ID"]
    assert response.status == 500
    assert json.loads(body)["title"] == "Internal error"
    for secret in ("RuntimeError", "Traceback", "pa55", "sample.py"):
        assert secret not in body
    [entry] = [log for log in logs if log["event"] == "unexpected error"]
    assert isinstance(entry["exc_info"], RuntimeError)
    assert entry["path"] == "/broken"
    assert name


async def test_a_failed_validation_inside_a_handler_is_422(sample: Sample) -> None:
    status, answer = await sample.get("/own-validation")
    assert status == 422
    assert answer["errors"][0]["loc"] == ["agent_id"]


async def test_redirects_stay_redirects(sample: Sample) -> None:
    async with sample.client.get("/moved", allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers["Location"] == "/health"


async def test_other_http_errors_are_problems_too(sample: Sample) -> None:
    status, answer = await sample.get("/teapot")
    assert status == 451
    assert answer["title"] == "Unavailable For Legal Reasons"
    assert answer["detail"]


def test_a_problem_with_a_lone_surrogate_can_be_sent() -> None:
    body = problem_response(errors.BusinessRule("No \udc80.")).body
    assert isinstance(body, bytes)
    assert json.loads(body)["detail"] == "No \udc80."


async def test_a_body_announced_too_large_is_refused_unread(sample: Sample) -> None:
    answer = await exchange(
        sample.port, b"POST /agents HTTP/1.1\r\n%sContent-Length: 999999999\r\n\r\n{" % HEAD
    )
    assert status_of(answer) == 413
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("encoding", ["chunked", "gzip"])
async def test_a_body_that_turns_out_too_large_is_413(sample: Sample, encoding: str) -> None:
    large = b'{"agent_id":"%s"}' % (b"a" * 10 * MAX_BODY)

    async def chunks() -> Any:
        yield large

    data, headers = (
        (chunks(), {})
        if encoding == "chunked"
        else (gzip.compress(large), {"Content-Encoding": "gzip"})
    )
    async with sample.client.post("/agents", data=data, headers=headers) as response:
        assert response.status == 413
        assert (await response.json(content_type=None))["title"] == "Body too large"


async def test_a_body_of_the_largest_size_is_accepted(sample: Sample) -> None:
    body = b'{"agent_id":"a","unknown":"'
    body += b"x" * (MAX_BODY - len(body) - 2) + b'"}'
    assert len(body) == MAX_BODY
    assert (await sample.post(body))[0] == 200
    assert (await sample.post(body + b" "))[0] == 413


async def test_a_body_that_does_not_arrive_is_408(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "BODY_SECONDS", 0.05)
    answer = await exchange(
        sample.port, b"POST /agents HTTP/1.1\r\n%sContent-Length: 9\r\n\r\n{" % HEAD
    )
    assert status_of(answer) == 408


async def test_compressed_bodies_are_read(sample: Sample) -> None:
    data = gzip.compress(b'{"agent_id":"a"}')
    headers = {"Content-Encoding": "gzip"}
    async with sample.client.post("/agents", data=data, headers=headers) as response:
        assert response.status == 200


async def test_a_body_that_cannot_be_decompressed_is_400(sample: Sample) -> None:
    headers = {"Content-Encoding": "gzip"}
    async with sample.client.post("/agents", data=b"not gzip", headers=headers) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["title"] == "Bad request"


@pytest.mark.parametrize("cls", list(problem_types()), ids=lambda cls: cls.slug)
def test_each_problem_type_is_complete(cls: type[AinsError]) -> None:
    assert 400 <= cls.status < 600
    assert cls.summary().endswith(".")
    assert cls.__doc__
    assert cls.__doc__ != AinsError.__doc__
    assert cls.type_uri() == f"/docs/problems/{cls.slug}"


HOSTILE_TARGETS = [
    b"/agents/%00",
    b"/agents/a%00b",
    b"/agents/%ff",
    b"/agents/%ed%a0%80",
    b"/agents/%zz",
    b"/agents/%",
    b"/agents/a%2Fb",
    b"/agents/\xe9",
    b"/agents/\xff",
    b"/agents/%0d%0a",
    b"/x%0ay",
    b"/agents/%2e%2e",
    b"/agents/../agents",
    b"/agents/{}",
    b"/agents?%00=1",
    b"/agents?text=%00",
    b"/agents?text=%ff",
    b"/agents?text=%ed%a0%80",
    b"/agents?text=\xff",
    b"/agents?limit=" + b"9" * 5000,
    b"/agents?text=" + b"y" * 7000,
    b"/agents?text=" + b"y" * 70_000,
    b"/agents?" + b"&".join(b"k%d=1" % n for n in range(900)),
    b"/" + b"a" * 70_000,
    b"/docs/assets/../../handler.py",
    b"/docs/assets/%2e%2e/%2e%2e/handler.py",
    b"/docs/problems/%00",
    b"//",
    b"//agents",
    b"*",
    b"?",
    b"",
    b"http://x/agents",
    b"http://[::1/agents",
    b"/agents#fragment",
    b"/tasks/%C3%28",
    b"/numbers/%D9%A7",
]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"PROPFIND"])
@pytest.mark.parametrize("target", HOSTILE_TARGETS, ids=lambda t: f"{len(t)} {t[:30]!r}")
async def test_no_target_is_a_500(sample: Sample, method: bytes, target: bytes) -> None:
    status = status_of(
        await exchange(sample.port, b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, HEAD))
    )
    assert 200 <= status < 500


POST = b"POST /agents HTTP/1.1\r\n" + HEAD
HOSTILE_MESSAGES = {
    "unknown method": b"FOO /health HTTP/1.1\r\n%s\r\n" % HEAD,
    "lower case": b"get /health HTTP/1.1\r\n%s\r\n" % HEAD,
    "connect": b"CONNECT x:1 HTTP/1.1\r\n%s\r\n" % HEAD,
    "options star": b"OPTIONS * HTTP/1.1\r\n%s\r\n" % HEAD,
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "bad host": b"GET /health HTTP/1.1\r\nHost: [::1:99999\r\nConnection: close\r\n\r\n",
    "header latin-1": b"GET /health HTTP/1.1\r\n%sX-Request-ID: \xff\xfe\r\n\r\n" % HEAD,
    "header nul": b"GET /health HTTP/1.1\r\n%sX-A: a\0b\r\n\r\n" % HEAD,
    "header large": b"GET /health HTTP/1.1\r\n%sX-A: %s\r\n\r\n" % (HEAD, b"a" * 70_000),
    "header many": b"GET /health HTTP/1.1\r\n%s\r\n"
    % b"".join(b"X-%d: a\r\n" % n for n in range(5000)),
    "expect": POST + b"Expect: foo\r\nContent-Length: 2\r\n\r\n{}",
    "length text": POST + b"Content-Length: abc\r\n\r\n",
    "length negative": POST + b"Content-Length: -1\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc",
    "encoding br": POST + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
    "upgrade": b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
    "garbage": b"\x00\x01\x02\r\n\r\n",
}


@pytest.mark.parametrize("message", HOSTILE_MESSAGES.values(), ids=HOSTILE_MESSAGES)
async def test_no_message_is_a_500(sample: Sample, message: bytes) -> None:
    assert 100 <= status_of(await exchange(sample.port, message)) < 500
    assert (await sample.get("/health"))[0] == 200


async def test_a_client_that_leaves_in_mid_body_is_no_error(
    sample: Sample, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        _, writer = await asyncio.open_connection("127.0.0.1", sample.port)
        writer.write(POST + b"Content-Length: 50\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while not any(log["event"] == "request" for log in logs):
                await asyncio.sleep(0.01)
    assert [log["status"] for log in logs if log["event"] == "request"] == [499]
    assert not [log for log in logs if log["event"] == "unexpected error"]
    assert not [r for r in caplog.records if r.name == "aiohttp.server" and r.levelno > 10]
