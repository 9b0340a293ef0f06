"""Signatures of entries: HMAC-SHA256 with a shared key, or Ed25519 with a pair of keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from jobspan.errors import MissingExtraError

__all__ = ["Signer", "read_sign_key"]


class Signer:
    """Signs headers and verifies their signatures.

    Parameters
    ----------
    key : bytes, Ed25519PrivateKey or Ed25519PublicKey
        At least 16 bytes for HMAC-SHA256; a private key signs and verifies, a public one verifies.
    """

    def __init__(self, key: Any) -> None:
        self._key = key
        self._hmac = isinstance(key, bytes)

    def __repr__(self) -> str:
        return f"Signer({'HMAC-SHA256' if self._hmac else 'Ed25519'})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._hmac:
            return Signer, (self._key,)
        private = hasattr(self._key, "sign")
        raw = self._key.private_bytes_raw() if private else self._key.public_bytes_raw()
        return _ed25519, (raw, private)

    @property
    def can_sign(self) -> bool:
        """Whether the key is more than a public one."""
        return self._hmac or hasattr(self._key, "sign")

    def sign(self, text: bytes) -> str:
        """Return the signature of `text`."""
        if self._hmac:
            return "hmac-sha256:" + hmac.new(self._key, text, hashlib.sha256).hexdigest()
        return "ed25519:" + base64.b64encode(self._key.sign(text)).decode()

    def verify(self, text: bytes, signature: str) -> bool:
        """Whether `signature` is the key's signature of `text`."""
        if self._hmac:
            return hmac.compare_digest(self.sign(text).encode(), signature.encode())
        kind, _, encoded = signature.partition(":")
        if kind != "ed25519":
            return False
        from cryptography.exceptions import InvalidSignature

        public = self._key.public_key() if hasattr(self._key, "sign") else self._key
        try:
            public.verify(base64.b64decode(encoded, validate=True), text)
        except (InvalidSignature, ValueError):
            return False
        return True


def _ed25519(raw: bytes, private: bool) -> Signer:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if private:
        return Signer(ed25519.Ed25519PrivateKey.from_private_bytes(raw))
    return Signer(ed25519.Ed25519PublicKey.from_public_bytes(raw))


def read_sign_key(key: Any) -> Signer | None:
    """Return the signer for what the user gave as ``sign_key=``.

    Raises
    ------
    ValueError
        If it is no key, or too short a one; the message does not show it.
    """
    if key is None or isinstance(key, Signer):
        return key
    if isinstance(key, str):
        key = key.encode()
    if isinstance(key, bytes) and key.lstrip().startswith(b"-----BEGIN "):
        key = _of_pem(key)  # a public one is no secret to sign with
    if isinstance(key, bytes):
        if len(key) < 16:
            raise ValueError(
                f"sign_key has {len(key)} bytes; pass at least 16, such as secrets.token_bytes(32)"
            )
        return Signer(key)
    if hasattr(key, "verify") or hasattr(key, "sign"):
        try:
            import cryptography  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise MissingExtraError("an Ed25519 sign_key", "sign") from error
        return Signer(key)
    raise ValueError(
        f"sign_key is {type(key).__qualname__}; pass bytes for HMAC-SHA256, or an Ed25519 key of "
        "the package cryptography"
    )


def _of_pem(pem: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("a sign_key in PEM", "sign") from error
    try:
        if b"PUBLIC KEY" in pem:
            key: Any = serialization.load_pem_public_key(pem)
        else:
            key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"sign_key looks like PEM and cannot be read ({type(error).__name__}); pass an "
            "unencrypted Ed25519 key"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        raise ValueError(f"sign_key is {type(key).__name__}; pass an Ed25519 key")
    return key
