"""What ``jobspan run`` makes of a script's imports from joblib."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jobspan.cli.importing import from_jobspan


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("import joblib", "import jobspan as joblib"),
        ("import joblib as jl", "import jobspan as jl"),
        ("import os, joblib", "import os, jobspan as joblib"),
        ("import joblib.parallel", "import jobspan as joblib"),
        ("import joblib.parallel as jp", "import jobspan.parallel as jp"),
        ("from joblib import Parallel, delayed", "from jobspan import Parallel, delayed"),
        ("from joblib import Memory as M", "from jobspan import Memory as M"),
        ("from joblib import *", "from jobspan import *"),
        ("from joblib import parallel, hashing", "from jobspan import parallel, hashing"),
        ("from joblib.parallel import Parallel, delayed", "from jobspan import Parallel, delayed"),
        ("from joblib.memory import Memory", "from jobspan import Memory"),
        (
            "from joblib.memory import NotMemorizedFunc",
            "from jobspan.memory import NotMemorizedFunc",
        ),
        ("from joblib.numpy_pickle import dump, load", "from jobspan import dump, load"),
        ("from joblib.logger import PrintTime", "from jobspan import PrintTime"),
        ("from joblib.logger import format_time", "from jobspan.logger import format_time"),
        ("from joblib._store_backends import CacheWarning", "from jobspan import CacheWarning"),
        (
            "from joblib.parallel import BatchCompletionCallBack, cpu_count",
            "from jobspan.parallel import BatchCompletionCallBack\nfrom jobspan import cpu_count",
        ),
        (
            "from joblib.parallel import Parallel, AutoBatchingMixin",
            "from jobspan import Parallel\nfrom joblib.parallel import AutoBatchingMixin",
        ),
    ],
)
def test_imports_of_what_jobspan_has(theirs: str, ours: str) -> None:
    assert ast.unparse(from_jobspan(ast.parse(theirs))) == ours


@pytest.mark.parametrize(
    "kept",
    [
        "import joblibspark",
        "import joblib.externals.loky",
        "from joblib.externals import loky",
        "from joblib.externals.loky import get_reusable_executor",
        "from joblib._parallel_backends import ThreadingBackend",
        "from joblib.func_inspect import filter_args",
        "from .joblib import Parallel",
        "from project.joblib import Parallel",
        "from joblibspark import register_spark",
    ],
)
def test_imports_that_stay(kept: str) -> None:
    assert ast.unparse(from_jobspan(ast.parse(kept))) == kept


SCRIPT = """
import contextlib
import joblib.parallel
from joblib.parallel import delayed
from joblib.func_inspect import get_func_name
from joblib import Parallel, memory

done = 0

class Bar(joblib.parallel.BatchCompletionCallBack):
    def __call__(self, *args, **kwargs):
        global done
        done += self.batch_size
        return super().__call__(*args, **kwargs)

joblib.parallel.BatchCompletionCallBack = Bar
found = Parallel(n_jobs=2, backend="threading")(delayed(abs)(-i) for i in range(5))
print(found, done, memory.Memory.__module__, get_func_name(abs)[1])
"""


def test_a_script_that_draws_its_own_bar_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error", "-m", "jobspan.cli", "run", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout == "[0, 1, 2, 3, 4] 5 jobspan.memory.memory abs\n"
