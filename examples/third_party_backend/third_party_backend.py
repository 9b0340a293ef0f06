"""Use a backend that another package brings, by its name alone."""

from __future__ import annotations

import hashlib

from jobspan import Parallel, delayed
from jobspan.errors import UnknownBackendError


def fingerprint(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def main() -> None:
    try:
        parallel = Parallel(n_jobs=2, backend="futures")
    except UnknownBackendError as error:
        raise SystemExit(f"{error}\nFirst: pip install ./examples/third_party_backend") from error
    for text in parallel(delayed(fingerprint)(f"text {number}") for number in range(4)):
        print(text)


if __name__ == "__main__":
    main()
