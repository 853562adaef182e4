import json
import logging

import pytest

from ains.logs import Throttle, get_logger, request_id
from tests.support.logs import captured, parsed


def test_a_line_is_json_with_time_level_and_fields() -> None:
    with captured() as out:
        get_logger("ains.test").info("agent registered", agent_id="a", n=1)
    [line] = parsed(out)
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "agent registered",
        "module": "ains.test",
        "agent_id": "a",
        "n": 1,
    }


def test_what_libraries_log_takes_the_same_way() -> None:
    with captured() as out:
        logging.getLogger("asyncpg").warning("slow %s", "query")
        logging.getLogger("asyncio").info("of no interest")
    [line] = parsed(out)
    assert (line["level"], line["module"], line["event"]) == ("warning", "asyncpg", "slow query")


def test_the_level_holds_for_all() -> None:
    with captured(level="warning") as out:
        get_logger("x").info("no")
        logging.getLogger("aiohttp").info("no")
        get_logger("x").warning("yes")
        logging.getLogger("aiohttp").warning("yes")
    assert [line["event"] for line in parsed(out)] == ["yes", "yes"]


def test_lines_know_the_request() -> None:
    token = request_id.set("r-1")
    try:
        with captured() as out:
            get_logger("x").info("a")
            logging.getLogger("y").warning("b")
    finally:
        request_id.reset(token)
    assert [line["request_id"] for line in parsed(out)] == ["r-1", "r-1"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_password_is_logged(style: str) -> None:
    url = "postgresql://joe:hunter2@db/x"
    with captured("json" if style == "json" else "console") as out:
        log = get_logger("x")
        message = f"connecting to {url}"
        log.info(message, url=url, nested={"urls": [url]})
        logging.getLogger("asyncpg").warning("can't reach %s", url)
        try:
            raise ConnectionError(f"no answer from {url}")
        except ConnectionError as error:
            log.exception("failed", error=error)
            logging.getLogger("asyncpg").exception("failed")
    text = out.getvalue()
    assert "hunter2" not in text
    assert text.count("joe:***@db") >= 6
    assert text.count("Traceback") == 2


def test_tracebacks_show_no_local_variables() -> None:
    def connect(password: str) -> None:
        raise ConnectionError("no answer")

    with captured("console") as out:
        try:
            connect("hunter2")
        except ConnectionError:
            get_logger("x").exception("failed")
    assert "ConnectionError: no answer" in out.getvalue()
    assert "hunter2" not in out.getvalue().replace('connect("hunter2")', "")


def test_what_json_cannot_hold_is_logged_nevertheless() -> None:
    with captured() as out:
        get_logger("x").info("odd", big=10**30, lone="\udc80", other=object(), key={1: 2})
    [line] = parsed(out)
    assert line["big"] == 10**30
    assert "\n" not in json.dumps(line["lone"])


def test_a_value_cannot_forge_a_line() -> None:
    for style in ("json", "console"):
        with captured("json" if style == "json" else "console") as out:
            get_logger("x").info("request", path='/a\n{"event":"forged"}')
        assert len(out.getvalue().splitlines()) == 1


def test_peers_that_speak_no_http_fill_no_log() -> None:
    from aiohttp.http_exceptions import BadStatusLine

    server = logging.getLogger("aiohttp.server")
    with captured() as out:
        for error in (BadStatusLine("x"), ConnectionResetError()):
            server.error("Error handling request", exc_info=error)
        server.error("Unhandled exception", exc_info=RuntimeError("a mistake of ours"))
    [line] = parsed(out)
    assert "a mistake of ours" in line["exception"]


def test_one_line_of_a_kind_is_let_through_at_a_time() -> None:
    now = 0.0
    throttle = Throttle(60, clock=lambda: now)
    assert [throttle.admit(kind) for kind in "aaba"] == [0, None, 0, None]
    now = 59.9
    assert throttle.admit("a") is None
    now = 60
    assert [throttle.admit(kind) for kind in "aab"] == [3, None, 0]
