"""Image thumbnails: one call a picture, each made once, the page of them at the end.

usage: python image_thumbnails.py [FOLDER OF .npy PICTURES]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from jobspan import Memory, Parallel, delayed


def picture(number, size=480):
    """Draw a picture of rings, for want of a camera."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    rings = np.sin((6 + number) * np.hypot(x, y * (1 + number / 10)))
    return ((rings + 1) * 127.5).astype(np.uint8)


def thumbnail(path, edge=48):
    """Shrink a picture by averaging the pixels that become one."""
    pixels = np.load(path).astype(float)
    step = pixels.shape[0] // edge
    blocks = pixels[: edge * step, : edge * step].reshape(edge, step, edge, step)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)


def main(folder, cache):
    paths = sorted(Path(folder).glob("*.npy"))
    shrink = Memory(cache, verbose=0).cache(thumbnail)
    parallel = Parallel(n_jobs=2, on_error="skip")  # a broken picture costs only itself
    small = parallel(delayed(shrink)(str(path)) for path in paths)
    page = np.hstack(small)
    print(f"{len(small)} thumbnails of {parallel.stats.calls} pictures, a page of {page.shape}")
    print("mean grey:", round(float(page.mean()), 3))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="jobspan-example-") as own:
        if len(sys.argv) > 1:
            main(sys.argv[1], f"{own}/cache")
        else:
            for number in range(8):
                np.save(f"{own}/{number}.npy", picture(number))
            Path(f"{own}/9.npy").write_bytes(b"no picture")
            main(own, f"{own}/cache")
