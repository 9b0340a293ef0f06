"""joblib.memory."""

from jobspan import (  # noqa: F401
    MemorizedFunc,
    MemorizedResult,
    Memory,
    expires_after,
    register_store_backend,
)
