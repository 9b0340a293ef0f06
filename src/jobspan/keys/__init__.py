"""Keys: the same call has the same key everywhere, and no other call has it.

::

    function ── fingerprint ── walking ── told, reads, origins
       │             │
       └── calls ────┴──────── canonical ── encoding ◄─┬ builtin_values, standard_library
             │                                         └ arrays, frames, models
             └ explaining

``canonical`` gives the bytes of values; the modules at the right say how those of certain types are
encoded. ``walking`` follows code to all that it reads, ``calls`` binds arguments and makes the key
of a call.
"""

# Imported for the encoders that they register.
from jobspan.keys import arrays, builtin_values, frames, models, standard_library  # noqa: F401
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
