"""Rules about agents that need no database."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ains.domain.agents import SearchQuery, is_hex, is_signed, plain
from ains.domain.trust import rounded, success_rate, trust_level


@pytest.mark.parametrize("text", ["00", "ab", "AB", "aBcD09", "00" * 4096])
def test_hex(text: str) -> None:
    assert is_hex(text)


@pytest.mark.parametrize(
    "text", ["", "a", "abc", "0x00", "zz", "ab cd", " ab", "ab\n", "-1", "٣٣", "é0", "\x00"]
)
def test_not_hex(text: str) -> None:
    assert not is_hex(text)


def test_known_signature_is_valid() -> None:
    """TEST 2 of RFC 8032, whose message is the letter r.

    https://www.rfc-editor.org/rfc/rfc8032#section-7.1
    """
    key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert is_signed("r", "", key, signature)
    assert is_signed("", "r", key.upper(), signature.upper())
    assert not is_signed("r", "r", key, signature)


def test_signature_of_anything_else_is_not_valid() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    signature = key.sign("agentéhttp://x/".encode()).hex()
    assert is_signed("agenté", "http://x/", public, signature)
    assert not is_signed("agenté", "http://y/", public, signature)
    assert not is_signed("other", "http://x/", public, signature)
    assert not is_signed("agenté", "http://x/", "00" * 32, signature)
    assert not is_signed("agenté", "http://x/", public, signature[:-2])
    assert not is_signed("agenté", "http://x/", public[:-2], signature)
    for bit in (0, 255, 256, 511):
        changed = int(signature, 16) ^ 1 << bit
        assert not is_signed("agenté", "http://x/", public, f"{changed:0128x}")


@pytest.mark.parametrize(
    ("score", "level"),
    [(1, "high"), (0.8, "high"), (0.799999, "medium"), (0.5, "medium"), (0.499999, "low"),
     (0, "low")],
)  # fmt: skip
def test_trust_level(score: float, level: str) -> None:
    assert trust_level(score) == level


def test_success_rate() -> None:
    assert success_rate(0, 0) == 0
    assert success_rate(0, 3) == 0
    assert success_rate(5, 0) == 1
    assert success_rate(2, 1) == 0.666667
    assert success_rate(2**62, 2**62) == 0.5


def test_numbers_are_shown_as_people_write_them() -> None:
    assert rounded(0.5 + 0.05 + 0.03) == 0.58
    assert (plain(30.0), plain(2.5)) == (30, 2.5)
    assert isinstance(plain(30.0), int)
    assert isinstance(plain(1e300), float), "JSON's integers have 64 bits in many a client"


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [(None, None), ("", None), (" , ,", None), ("a", ["a"]), (" a ,B c,", ["a", "B c"])],
)
def test_tags_are_split_at_commas(tags: str | None, wanted: list[str] | None) -> None:
    assert SearchQuery(tags=tags).tag_list() == wanted
