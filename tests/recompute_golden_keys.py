"""Recompute the committed keys under every Python on this machine, with old and new packages.

``python tests/recompute_golden_keys.py`` makes an environment for each interpreter that it finds,
recomputes all keys in it and compares them; ``--write`` commits what this interpreter computes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden_keys.json"
SAMPLES = ROOT / "tests" / "keys" / "key_samples.py"
NEEDED = ["blake3", "cloudpickle", "fsspec"]
OLD = ["numpy==1.26.*", "pandas==2.2.*", "scipy<1.14", "pyarrow<18"]
NEW = ["numpy>=2", "pandas>=3", "scipy", "pyarrow", "polars"]
PACKAGES = {
    "3.11": [OLD, NEW],
    "3.12": [["numpy==2.0.*", "pandas==2.2.*"]],
    "3.13": [NEW],
    "3.14": [NEW],
}
"""Packages of the environments for each Python."""


def interpreters() -> dict[str, str]:
    """Return the interpreters of this machine by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in PACKAGES:
        places = sorted(pyenv.glob(f"{version}.*/bin/python"))
        on_path = shutil.which(f"python{version}")
        if places:
            found[version] = str(places[-1])
        elif on_path is not None:
            found[version] = on_path
    return found


def make_environment(interpreter: str, packages: list[str], folder: Path) -> str:
    """Return the Python of an environment with packages, made where it is not there yet."""
    python = folder / "bin" / "python"
    made = folder / "made"
    if not made.exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--prefer-binary"]
        subprocess.run([*install, *packages], check=True)
        made.touch()
    return str(python)


def keys_under(python: str, *words: str) -> dict[str, str]:
    """Return the keys that a Python computes."""
    done = subprocess.run(
        [python, str(SAMPLES), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{python} could not compute the keys:\n{done.stderr}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def main() -> int:
    """Compare all environments; return how many differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write what this Python computes")
    parser.add_argument("--folder", type=Path, help="where environments are made and kept")
    given = parser.parse_args()
    if given.write:
        GOLDEN.write_text(json.dumps(keys_under(sys.executable), indent=0, sort_keys=True) + "\n")
    golden = json.loads(GOLDEN.read_text())
    base = given.folder or Path(tempfile.gettempdir()) / "jobspan-golden-keys"
    differing = 0
    for version, interpreter in interpreters().items():
        for number, packages in enumerate(PACKAGES[version]):
            folder = base / f"{version}-{number}"
            found = keys_under(make_environment(interpreter, [*NEEDED, *packages], folder))
            wrong = sorted(name for name in found if golden.get(name) != found[name])
            differing += bool(wrong)
            print(f"Python {version}, {', '.join(packages)}: {len(found)} keys", *wrong, sep="\n  ")
    return differing


if __name__ == "__main__":
    sys.exit(main())
