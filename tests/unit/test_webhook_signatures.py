"""Signatures as Standard Webhooks define them, checked with their own package."""

import hashlib
import hmac
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from ains.domain.webhooks import new_secret, retry_after, signed_headers

SECRET = new_secret(bytes(range(24)))
BODY = '{"type": "task.completed", "name": "Käse \\u0000"}'.encode()


def test_delivery_verifies() -> None:
    headers = signed_headers(SECRET, "msg_1", int(time.time()), BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"type": "task.completed", "name": "Käse \0"}


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp"])
def test_one_byte_changed_is_rejected(part: str) -> None:
    headers = signed_headers(SECRET, "msg_1", int(time.time()), BODY)
    body = BODY
    if part == "body":
        body = BODY.replace(b"task", b"tesk")
    else:
        headers[part] = headers[part][:-1] + ("0" if headers[part][-1] != "0" else "1")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)


def test_old_header_is_keyed_with_the_text_of_the_secret() -> None:
    headers = signed_headers("an old secret", "msg_1", 1, BODY)
    expected = hmac.new(b"an old secret", BODY, hashlib.sha256).hexdigest()
    assert headers["X-Webhook-Signature"] == f"sha256={expected}"


def test_retries_follow_the_schedule_and_end() -> None:
    delays = (5.0, 300.0)
    assert retry_after(1, delays, 0.0) == 5
    assert retry_after(1, delays, 1.0) == 6
    assert retry_after(1, delays, -1.0) == 4
    assert retry_after(2, delays, 0.0) == 300
    assert retry_after(3, delays, 0.0) is None


def test_wish_for_a_later_retry_is_honoured_within_a_day() -> None:
    assert retry_after(1, (5.0,), 0.0, asked=60) == 60
    assert retry_after(1, (5.0,), 0.0, asked=1) == 5
    assert retry_after(1, (5.0,), 0.0, asked=10**9) == 86_400
