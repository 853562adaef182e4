"""Keeps passwords out of everything that is printed."""

import re

__all__ = ["MASK", "may_have_password", "redact"]

MASK = "***"

# The password of a URL ends at the LAST @ before the host: people forget to percent-encode theirs.
_USERINFO = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@?#'\"]*:)\S*@", re.IGNORECASE)
# libpq takes the password as a parameter too, in URLs (?password=) and in keyword strings.
_PARAMETER = re.compile(
    r"(?P<head>\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)", re.IGNORECASE
)


def may_have_password(text: str) -> bool:
    """Whether `redact` might change ``text``; fast, and wrong only in this direction."""
    return "://" in text or "assword" in text or "ASSWORD" in text


def redact(text: str) -> str:
    """Return ``text`` with the passwords of all connection strings in it replaced by ``***``."""
    if may_have_password(text):
        text = _USERINFO.sub(rf"\g<head>{MASK}@", text)
        text = _PARAMETER.sub(rf"\g<head>{MASK}", text)
    return text
