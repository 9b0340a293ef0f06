"""The commands that run something, and what is printed where something is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.start import run

SCRIPT = """
import os, sys
import joblib
from joblib import Parallel, delayed

def square(x):
    return x * x, os.getpid()

if __name__ == "__main__":
    parallel = Parallel()
    found = parallel(delayed(square)(i) for i in range(6))
    print(joblib.__name__, sys.argv[1:], [value for value, _ in found], __file__)
    print(parallel.stats.backend, os.getpid() in {pid for _, pid in found})
    sys.exit(len(sys.argv) - 1)
"""


def command(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobspan.cli", *arguments],
        capture_output=True, text=True, timeout=100, check=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["threads", "processes", "dask"])
def test_run_takes_a_joblib_script_to_a_backend(tmp_path, backend):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = command("run", "-b", backend, "-j", "2", str(script), "--width", "3")
    assert done.returncode == 2, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"jobspan ['--width', '3'] [0, 1, 4, 9, 16, 25] {script}"
    assert second == f"{backend} {backend == 'threads'}"


@pytest.mark.parametrize("form", ["relative", "module", "package", "stdin"])
def test_run_runs_what_python_runs(tmp_path, form):
    """Each is told by ``sys`` and ``__main__`` what Python itself tells it."""
    package = tmp_path / "project"
    package.mkdir()
    text = (
        "import os, sys\nfrom joblib import Parallel\nos.chdir('/')\n"
        "print(sys.argv, sys.path[0], globals().get('__file__'), __name__, __package__,"
        " getattr(__spec__, 'name', None))\n"
        "print(Parallel.__module__.partition('.')[0])\n"
    )
    (package / "__main__.py").write_text(text)
    (package / "tool.py").write_text(text)
    what, stdin = {
        "relative": (["project/tool.py"], None),
        "module": (["-m", "project.tool"], None),
        "package": (["-m", "project"], None),
        "stdin": (["-"], text),
    }[form]
    done, python = (
        subprocess.run(
            [sys.executable, *prefix, *what, "-x", "3"],
            capture_output=True, check=True, cwd=tmp_path, input=stdin, timeout=60, text=True,
        )
        for prefix in (["-m", "jobspan", "run"], [])
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == python.stdout.replace("joblib", "jobspan")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-j", "0", "{script}"], "n_jobs == 0 in Parallel has no meaning"),
        (["nofile.py"], "'nofile.py' does not exist; type a script's path, or -m"),
        (["{folder}"], "is a folder; type a script's path"),
        (["-m", "nosuch.module"], "'nosuch.module' cannot be found: No module named 'nosuch'"),
        (["-m", "nosuch"], "'nosuch' is no module that has a file"),
        (["-m", "email"], "'email' is no module that has a file, and no package with one"),
    ],
)
def test_run_refuses_what_cannot_be_meant(tmp_path, capsys, arguments, says):
    script = tmp_path / "script.py"
    script.write_text("print('never')")
    given = [each.format(script=script, folder=tmp_path) for each in arguments]
    assert run(["run", *given]) == ExitCode.USAGE
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


LIBRARY_SCRIPT = """
import os
from sklearn.base import BaseEstimator
from sklearn.model_selection import cross_val_score

class Where(BaseEstimator):
    def fit(self, X, y):
        return self
    def score(self, X, y):
        return os.getpid()

pids = cross_val_score(Where(), [[0.0]] * 4, [0, 1, 0, 1], cv=2)
print(os.getpid() not in pids)
"""


def test_run_takes_libraries_that_call_joblib_there_too(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LIBRARY_SCRIPT)
    done = command("run", "-b", "processes", str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_run_shows_the_script_s_own_traceback(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("def f():\n    raise LookupError('gone')\n\nf()\n")
    done = command("run", str(script))
    assert done.returncode == 1
    assert "LookupError: gone" in done.stderr
    assert "jobspan" not in done.stderr
    script.write_text("def f(:\n")
    done = command("run", str(script))
    assert done.returncode == 1
    assert "line 1" in done.stderr


def test_run_refuses_unknown_backends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('never')")
    done = command("run", "-b", "dusk", str(script))
    assert done.returncode == ExitCode.USAGE
    assert "Did you mean 'dask'?" in done.stderr
    assert done.stdout == ""


def test_run_says_that_a_cluster_does_not_answer(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from joblib import Parallel, delayed; Parallel()(delayed(abs)(i) for i in [1])"
    )
    done = command("run", "-b", "dask://127.0.0.1:1", str(script))
    assert done.returncode == ExitCode.UNREACHABLE
    assert "no Dask scheduler answers at 'dask://127.0.0.1:1'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cached_function_of_a_script_has_one_key(tmp_path):
    """Results that ``python script.py`` stored are found by ``jobspan run script.py``."""
    script = tmp_path / "script.py"
    script.write_text(
        "from jobspan import Memory\n"
        "memory = Memory('cache', verbose=0)\n"
        "@memory.cache\n"
        "def double(x): return 2 * x\n"
        "print(double.check_call_in_cache(3), double(3))\n"
    )
    first = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert first.stdout == "False 6\n"
    assert command("run", str(script), cwd=tmp_path).stdout == "True 6\n"


def test_doctor_looks_at_machine_and_cache(tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    assert run(["doctor", "--cache", str(tmp_path / "cache"), "--json"]) == 0
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["worker processes"]["verdict"] == "good"
    assert checks["conditional writes"]["verdict"] == "good"
    assert "usable" in checks["cores"]["found"]
    assert not any((tmp_path / "cache").glob("doctor/*"))


def test_doctor_looks_at_a_bucket(moto_server, tmp_path, capsys):
    options = tmp_path / "options.json"
    options.write_text(json.dumps(moto_server.storage_options))
    url = f"{moto_server.bucket_url('doctor')}/cache"
    assert run(["doctor", "--cache", url, "--options-file", str(options), "--json"]) == 0
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["writing"]["verdict"] == "good"


def test_doctor_fails_where_nobody_answers(tmp_path, capsys):
    assert run(["doctor", "--cache", str(tmp_path / "nowhere")]) == ExitCode.FOUND_WRONG
    assert "there is no folder" in capsys.readouterr().out


def test_doctor_looks_at_a_cluster(capsys):
    assert run(["doctor", "--backend", "threads", "--json"]) == 0
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["jobspan there"]["verdict"] == "good"
    assert "calls at once" in checks["cluster"]["found"]


def test_demo_recalls_everything_the_second_time(capsys):
    assert run(["demo", "--files", "30", "--backend", "threads", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["from_cache"] for row in told["runs"]] == [0, 0, 30]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_JOBSPAN_COMPLETE" in capsys.readouterr().out


def test_bash_completes_commands():
    done = subprocess.run(
        [sys.executable, "-m", "jobspan"],
        env={
            **os.environ,
            "_JOBSPAN_COMPLETE": "bash_complete",
            "COMP_WORDS": "jobspan cache pr",
            "COMP_CWORD": "2",
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["plain,prune"]


def test_without_the_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('no click', name='click')")
    done = subprocess.run(
        [sys.executable, "-c", "from jobspan.cli.start import main; main()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.MISSING_EXTRA
    assert "pip install 'jobspan[cli]'" in done.stderr


def test_help_documents_exit_codes(capsys):
    assert run(["--help"]) == 0
    assert "130  interrupted" in capsys.readouterr().out


def test_the_command_is_installed():
    script = Path(sys.executable).with_name("jobspan")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("jobspan ")


def test_doctor_tells_a_wrong_limit_of_cores(monkeypatch, capsys):
    monkeypatch.setenv("JOBSPAN_MAX_CPU_COUNT", "two")
    assert run(["doctor", "--json"]) == ExitCode.FOUND_WRONG
    told = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["cores"]["verdict"] == "wrong"
    assert "JOBSPAN_MAX_CPU_COUNT='two' is no whole number" in told["cores"]["found"]


@pytest.mark.parametrize(
    "given", ['{"key": "SECRET"', "key=SECRET", '["SECRET"]', '{"key": SECRET}', "{path}"]
)
def test_storage_options_in_the_environment(tmp_path, capsys, monkeypatch, given):
    """They may be JSON themselves, and none of it is shown where it is wrong."""
    (tmp_path / "SECRET.json").write_text("no JSON")
    file = str(tmp_path / "SECRET.json")
    monkeypatch.setenv("JOBSPAN_STORAGE_OPTIONS", file if given == "{path}" else given)
    for command in (["cache", "ls", "memory://x"], ["doctor", "--cache", "memory://x"]):
        assert run(command) == ExitCode.USAGE
        told = capsys.readouterr().err
        assert ("SECRET" in told) == (given == "{path}")
    monkeypatch.setenv("JOBSPAN_STORAGE_OPTIONS", '{"skip_instance_cache": true}')
    assert run(["cache", "ls", "memory://x"]) == ExitCode.DONE
