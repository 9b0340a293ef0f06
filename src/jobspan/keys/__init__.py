"""Keys: the same call has the same key everywhere, and no other call has it.

::

    function ── fingerprint ── source
       │             │
       └─ calls ─────┴── canonical ◄── foreign
            │
            └─ explaining

``canonical`` encodes values, ``foreign`` knows those of other packages, ``fingerprint`` follows
code to all that it reads, ``calls`` binds arguments and makes the key of a call.
"""

from jobspan.keys import foreign as _foreign  # registers the encoders of other packages' types
from jobspan.keys.calls import CallKey, FunctionKeys, call_key
from jobspan.keys.canonical import canonical_bytes, digest, register_key_encoder
from jobspan.keys.explaining import explain
from jobspan.keys.fingerprint import Fingerprint, fingerprint
from jobspan.keys.hashing import hash

__all__ = [
    "CallKey",
    "Fingerprint",
    "FunctionKeys",
    "call_key",
    "canonical_bytes",
    "digest",
    "explain",
    "fingerprint",
    "hash",
    "register_key_encoder",
]

del _foreign
