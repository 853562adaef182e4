"""Keeps passwords out of everything that is printed."""

import re
from urllib.parse import unquote_plus

__all__ = ["MASK", "mask_url", "may_have_password", "redact"]

MASK = "***"

# The password of a URL ends at the LAST @ before the host: people forget to percent-encode theirs.
# A port is none. One with blanks in it ends at the last @ of the line, unless another URL begins
# before that.
_USERINFO = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@?#]*:)"
    r"(?:\S*@|(?!\d*(?:[\s/?#,;.)'\"]|$))(?:(?!://)[^\n])*@)",
    re.IGNORECASE,
)
# libpq takes the password as a parameter too, in URLs (?password=) and in keyword strings.
_PARAMETER = re.compile(
    r"(?P<head>\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE
)

# In a URL, any character of the name may be written as %xx.
_ENCODED = re.compile(r"(?P<head>[?&](?P<name>[^\s=&]*%[^\s=&]*)=)[^\s&'\"]+")
_USER = re.compile(r"[^:/@?#]*:")


def may_have_password(text: str) -> bool:
    """Whether `redact` might change ``text``; fast, and wrong only in this direction."""
    return "://" in text or "assword" in text or "ASSWORD" in text


def redact(text: str) -> str:
    """Return ``text`` with the passwords of all connection strings in it replaced by ``***``."""
    if may_have_password(text):
        text = _USERINFO.sub(rf"\g<head>{MASK}@", text)
        text = _PARAMETER.sub(rf"\g<head>{MASK}", text)
        text = _ENCODED.sub(_mask_encoded, text)
    return text


def _mask_encoded(found: re.Match[str]) -> str:
    return found["head"] + MASK if _is_password(found["name"]) else found[0]


def _is_password(name: str) -> bool:
    return unquote_plus(name).strip().lower().endswith("password")


def mask_url(url: str) -> str:
    """Return one connection URL with its passwords replaced by ``***``, whatever they consist of.

    Where it begins and ends is known, unlike in the texts that `redact` searches.
    """
    scheme, _, rest = url.partition("://")
    rest, asks, query = rest.partition("?")
    pieces = []
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        pieces.append(f"{name}={MASK}" if equals and value and _is_password(name) else piece)
    rest = rest + asks + "&".join(pieces)
    before, at, host = rest.rpartition("@")
    if at and (user := _USER.match(before)):
        rest = f"{user[0]}{MASK}@{host}"
    return f"{scheme}://{rest}"
