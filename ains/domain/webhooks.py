"""Webhooks: what may be subscribed to, how a delivery is signed, and when it is tried again.

Signatures follow Standard Webhooks 1.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.addresses import Network, is_allowed, literal_address
from ains.domain.types import QueryModel, RequestModel, length
from ains.errors import InvalidInput

__all__ = [
    "EVENTS",
    "Delivery",
    "DeliveryList",
    "NewWebhook",
    "Outcome",
    "RegisterWebhook",
    "Webhook",
    "asked_wait",
    "check_url",
    "new_secret",
    "retry_after",
    "signed_headers",
]

Event = Literal[
    "task.created",
    "task.assigned",
    "task.started",
    "task.completed",
    "task.failed",
    "task.cancelled",
    "chain.completed",
    "chain.failed",
]
EVENTS: Final[tuple[str, ...]] = Event.__args__  # type: ignore[attr-defined]  # of a Literal
"""Every event type, as the CHECK constraint of ``webhooks`` has them."""

Outcome = Literal["success", "http_error", "timeout", "connect_error", "blocked"]
"""How an HTTP attempt ended."""

_SECRET_BYTES = 24
_LONGEST = 86_400
_PREFIX = "whsec_"
_LOCAL_NAMES = ("localhost", "local", "internal", "home.arpa", "localdomain")


class RegisterWebhook(RequestModel):
    """Body of POST /ains/webhooks."""

    agent_id: Annotated[str, length(64, 1)]
    url: Annotated[str, length(2048, 1)]
    events: Annotated[list[Event], Field(min_length=1, max_length=100)]
    secret: Annotated[str, length(256, 8)] | None = None


class DeliveryQuery(QueryModel):
    """Query of GET /ains/webhooks/{webhook_id}/deliveries."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class DeactivateQuery(QueryModel):
    """Query of DELETE /ains/webhooks/{webhook_id}."""

    agent_id: str


class Webhook(TypedDict):
    """A subscription; the secret is never part of it."""

    webhook_id: str
    agent_id: str
    url: str
    events: list[str]
    active: bool
    created_at: datetime
    updated_at: datetime


class NewWebhook(TypedDict):
    """The answer to a registration: the only time that the secret is shown."""

    webhook_id: str
    agent_id: str
    url: str
    events: list[str]
    active: bool
    created_at: datetime
    secret: str


class Deactivated(TypedDict):
    """The answer to DELETE."""

    webhook_id: str
    status: Literal["deactivated"]


class Delivery(TypedDict):
    """One event on its way to one webhook."""

    delivery_id: str
    event_type: str
    status: Literal["pending", "success", "failed"]
    attempt_count: int
    response_code: int | None
    created_at: datetime
    delivered_at: datetime | None
    next_attempt_at: datetime | None


class DeliveryList(TypedDict):
    """Deliveries of a webhook, newest first."""

    webhook_id: str
    deliveries: list[Delivery]


def check_url(url: str, allowed: Iterable[Network] = ()) -> str:
    """Return the host of a webhook's URL, lower case.

    A name is not resolved here, since its address may change: the socket is guarded when a delivery
    connects.

    Raises:
        InvalidInput: no http(s) URL with a host, one with credentials, or one that spells an
            address which is neither public nor in ``allowed``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad_url("is not a URL that can be understood.") from error
    if any(character <= " " or character == "\x7f" for character in url) or "\\" in url:
        raise _bad_url("must not contain spaces, control characters or backslashes.")
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise _bad_url("must be an http or https URL with a host.")
    if parts.username is not None or parts.password is not None:
        raise _bad_url("must not contain credentials; sign-in data would be stored and logged.")
    address = literal_address(host)
    if address is not None:
        if not is_allowed(address, allowed):
            raise _bad_url("must lead to a public address.")
    elif not tuple(allowed) and _is_local_name(host):
        raise _bad_url("must lead to a public host.")
    return host.lower()


def _is_local_name(host: str) -> bool:
    name = host.lower().rstrip(".")
    return any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES)


def _bad_url(message: str) -> InvalidInput:
    return InvalidInput.at(["body", "url"], message, "url_forbidden")


def new_secret(random_bytes: bytes) -> str:
    """A signing secret, ``whsec_`` and base64, from 24 random bytes."""
    if len(random_bytes) != _SECRET_BYTES:
        raise ValueError(f"a secret is made of {_SECRET_BYTES} bytes")
    return _PREFIX + base64.b64encode(random_bytes).decode()


def _key(secret: str) -> bytes:
    """The HMAC key: what ``whsec_`` encodes, or the text itself of a secret of another form."""
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def signed_headers(secret: str, delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers that prove origin and integrity of exactly these bytes.

    ``webhook-signature`` is of ``id.timestamp.body`` (Standard Webhooks, HMAC-SHA256, base64);
    ``X-Webhook-Signature`` is what older receivers check: hexadecimal, of the body alone, keyed
    with the secret's text.
    """
    content = b"%b.%d.%b" % (delivery_id.encode(), timestamp, body)
    signature = base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
        "X-Webhook-Signature": "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex(),
    }


def asked_wait(header: str | None, now: float) -> float | None:
    """Seconds that Retry-After asks for at the Unix time ``now``; None when it says nothing.

    A number or a date (RFC 9110, section 10.2.3). Whatever else an endpoint writes, and a date that
    no calendar has, is nothing said; a number may be of any length.
    """
    if header is None:
        return None
    try:
        return float(min(max(0, int(header)), _LONGEST))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, OverflowError):
        return None


def retry_after(
    attempt: int,
    delays: Sequence[float],
    jitter: float,
    asked: float | None = None,
    longest: float = _LONGEST,
) -> float | None:
    """Seconds until the next attempt, None when retries are used up.

    Args:
        attempt: attempts made so far, from 1.
        delays: seconds before each retry, in order.
        jitter: a number from -1 to 1; ±1 is ±20 %.
        asked: what the endpoint asked for with Retry-After; the wait is at least that.
        longest: more than this is not waited for ``asked``.
    """
    if attempt > len(delays):
        return None
    wait = delays[attempt - 1] * (1 + 0.2 * jitter)
    return wait if asked is None else max(wait, min(asked, longest))
