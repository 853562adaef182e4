"""Where webhooks may not lead, however it is spelled."""

import socket

import pytest

from ains.domain.addresses import is_allowed, literal_address, parse_networks
from ains.domain.webhooks import check_url
from ains.errors import InvalidInput
from ains.workers.webhooks import AddressBlocked, guarded_socket
from tests.support.forbidden import FORBIDDEN_HOSTS

FORBIDDEN_NAMES = ["localhost", "LOCALHOST.", "a.localhost", "printer.local", "db.internal"]

FORBIDDEN_FORMS = [
    "ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "//example.com/",
    "http:///path", "http://", "example.com", "http://user@example.com/",
    "http://user:secret@example.com/", "http://example.com:0/", "http://example.com:99999/",
    "http://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://[::1/", "http://\t127.0.0.1",
    "javascript:alert(1)",
]  # fmt: skip

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "[2606:4700:4700::1111]", "example.com", "a-b.org"]


@pytest.mark.parametrize("host", [*FORBIDDEN_HOSTS, *FORBIDDEN_NAMES])
def test_forbidden_host_is_refused_at_registration(host: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(f"https://{host}/hook")
    assert caught.value.errors[0]["loc"] == ["body", "url"]


@pytest.mark.parametrize("url", FORBIDDEN_FORMS)
def test_forbidden_form_is_refused_at_registration(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_host_is_accepted(host: str) -> None:
    assert check_url(f"https://{host}:8443/hook?x=1") == host.strip("[]")


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_no_socket_is_made_for_a_forbidden_address(host: str) -> None:
    """What a resolver makes of the host, which a name may turn into at any time."""
    address = literal_address(host.replace("%25", "%"))
    assert address is not None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    create = guarded_socket(())
    with pytest.raises(AddressBlocked):
        create((family, socket.SOCK_STREAM, 6, "", (address, 443)))


def test_allowed_network_opens_exactly_itself() -> None:
    allowed = parse_networks(["127.0.0.0/8"])
    assert check_url("http://127.0.0.1:9000/", allowed) == "127.0.0.1"
    assert is_allowed("127.8.9.1", allowed)
    assert is_allowed("::ffff:127.0.0.1", allowed)
    assert not is_allowed("10.0.0.1", allowed)
    assert not is_allowed("::1", allowed)
    guarded_socket(allowed)((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))).close()


@pytest.mark.parametrize("text", ["", "no address", "1.2.3.4.5", "256.1.1.1", "0x", "1..2"])
def test_text_that_is_no_address_is_not_allowed(text: str) -> None:
    assert not is_allowed(text)
