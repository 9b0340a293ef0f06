"""Canonical structures for sparse matrices, estimators and tensors.

No package is imported here: a value of its types exists only where somebody has loaded it.
"""

from __future__ import annotations

from typing import Any

from jobspan.keys.arrays import buffer_digest, encode_array
from jobspan.keys.encoding import FOREIGN, Encoder, class_name, loaded, tagged


def _scipy(encoder: Encoder, value: Any) -> Any | None:
    sparse = loaded("scipy.sparse")
    if sparse is None or not sparse.issparse(value):
        return None
    if value.format in ("csr", "csc", "bsr"):
        parts = [value.data, value.indices, value.indptr]
    elif value.format == "coo":
        parts = (
            [value.data, *value.coords]
            if hasattr(value, "coords")
            else [
                value.data,
                value.row,
                value.col,
            ]
        )
    else:
        coordinates = value.tocoo()
        parts = [coordinates.data, coordinates.row, coordinates.col]
    np = loaded("numpy")
    arrays = [parts[0], *(np.asarray(part, dtype="i8") for part in parts[1:])]
    kind = type(value).__name__  # a matrix or an array, which multiply differently
    return tagged("sparse", kind, value.shape, [encode_array(encoder, a) for a in arrays])


def _sklearn(encoder: Encoder, value: Any) -> Any | None:
    if not hasattr(value, "get_params") or isinstance(value, type):
        return None
    state = {name: part for name, part in vars(value).items() if name != "_sklearn_version"}
    names = sorted(state)
    parts = [encoder.step(f".{name}", state[name]) for name in names]
    return tagged("estimator", encoder.kind(type(value)), names, parts)


def _torch(_encoder: Encoder, value: Any) -> Any | None:
    torch = loaded("torch")
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            return None
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        kind = class_name(type(value))
        about = (kind, str(value.dtype), tuple(value.shape), value.requires_grad)
        return tagged("tensor", *about, buffer_digest(data))
    if isinstance(value, torch.dtype | torch.device):
        return tagged("torch", str(value))
    return None


FOREIGN.update({"scipy": _scipy, "sklearn": _sklearn, "torch": _torch})
