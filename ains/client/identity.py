"""The key pair by which an agent proves that a registration is its own."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Identity"]


class Identity:
    """An Ed25519 key (RFC 8032, https://www.rfc-editor.org/rfc/rfc8032); its parts are hexadecimal.

    Keep `secret` to register again under the same key: ``Identity.from_secret(secret)``.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "Identity":
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: str) -> "Identity":
        """Read what `secret` returned; raises `ValueError` when it is not 64 hexadecimal digits."""
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))

    def __repr__(self) -> str:
        return f"<Identity {self.public_key[:8]}…>"

    @property
    def secret(self) -> str:
        """The private key, 64 hexadecimal digits. Do not log it."""
        return self._key.private_bytes_raw().hex()

    @property
    def public_key(self) -> str:
        """The public key, 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, text: str) -> str:
        """Sign the UTF-8 bytes of ``text``; 128 hexadecimal digits.

        A registration signs ``agent_id + endpoint``.
        """
        return self._key.sign(text.encode()).hex()
