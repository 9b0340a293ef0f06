"""``dump`` and ``load``: any value in a file, large arrays mapped instead of read."""

from jobspan.persistence.compressors import register_compressor
from jobspan.persistence.files import dump, load

__all__ = ["dump", "load", "register_compressor"]
