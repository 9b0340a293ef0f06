"""joblib.externals: what joblib brings along."""

from pathlib import Path

from joblib import _rest

__path__ = [str(Path(folder, "externals")) for folder in _rest.folders()] or __path__
