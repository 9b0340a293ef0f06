"""``jobspan cache`` on real stores: a folder, and S3."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jobspan import Memory
from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.start import run


def slow(x, width=3):
    time.sleep(0.002)
    return [x] * width


def text(word):
    return word * 10_000


NAME = f"{slow.__module__}.slow"


@dataclass
class Team:
    """A cache with eight results of one function and one of another."""

    url: str
    storage_options: dict[str, Any]
    options: list[str]

    def memory(self, **more: Any) -> Memory:
        return Memory(self.url, storage_options=self.storage_options, verbose=0, **more)

    def fill(self) -> None:
        function = self.memory().cache(slow)
        for x in range(8):
            function(x)
        self.memory().cache(text)("a")

    def do(self, *arguments: str) -> int:
        command, *rest = arguments
        return run(["cache", command, self.url, *rest, *self.options])

    def names(self) -> list[str]:
        store = self.memory().store_backend
        return sorted(info.name for info in store.list())


@pytest.fixture(params=["folder", "s3"])
def team(request, tmp_path, fresh_prefix) -> Team:
    if request.param == "folder":
        made = Team(str(tmp_path / "cache"), {}, [])
    else:
        server = request.getfixturevalue("moto_server")
        file = tmp_path / "options.json"
        file.write_text(json.dumps(server.storage_options))
        url = f"{server.bucket_url('team-cli')}/{fresh_prefix()}"
        made = Team(url, server.storage_options, ["--options-file", str(file)])
    made.fill()
    return made


@pytest.fixture
def said(capsys) -> Callable[[], Any]:
    """Give what was printed as JSON."""
    return lambda: json.loads(capsys.readouterr().out)


def test_ls_lists_functions_and_entries(team, said, capsys):
    assert team.do("ls", "--json") == 0
    functions = said()
    assert [one["entries"] for one in functions if one["function"] == NAME] == [8]
    assert functions[0]["bytes"] == max(one["bytes"] for one in functions)
    assert team.do("ls", NAME, "--json", "--sort", "created", "--limit", "3") == 0
    assert [one["arguments"]["x"] for one in said()] == ["7", "6", "5"]
    assert team.do("ls", NAME) == 0
    assert "x=3, width=3" in capsys.readouterr().out


def test_ls_of_an_unknown_function_says_which_there_is(team, capsys):
    assert team.do("ls", "slow") == ExitCode.NO_SUCH_ENTRY
    assert f"Did you mean {NAME!r}?" in capsys.readouterr().err


def test_show_finds_an_entry_by_the_start_of_its_key(team, said, capsys):
    team.do("ls", NAME, "--json", "--sort", "created")
    newest = said()[0]
    assert team.do("show", newest["key"][:10], "--json", "--value") == 0
    shown = said()
    assert shown["key"] == newest["key"]
    assert shown["value"] == "[7, 7, 7]"
    assert "function source" in shown["code"]
    assert team.do("show", "") == ExitCode.NO_SUCH_ENTRY
    assert "type more digits" in capsys.readouterr().err
    assert team.do("show", "zz") == ExitCode.NO_SUCH_ENTRY


def test_stats_sum_up(team, said):
    assert team.do("stats", "--json") == 0
    told = said()
    assert (told["entries"], told["functions"], told["damaged"], told["claims"]) == (9, 2, 0, 0)
    assert told["seconds"] > 8 * 0.002
    assert told["bytes"] == sum(one["bytes"] for one in told["by_function"])


def test_explain_says_what_changed(tmp_path, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "steps_to_explain.py"
    code = """
from jobspan import Memory
memory = Memory("cache", verbose=0)
def helper(x): return x + 1
@memory.cache
def step(x, width=3): return helper(x) * width
if __name__ == "__main__": step(1)
"""
    script.write_text(code)
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    ask = ["cache", "explain", "cache", "--json"]
    assert run([*ask, "steps_to_explain.py:step(1)"]) == 0
    assert said()["stored"]
    assert run([*ask, "steps_to_explain.py:step(1, width=4)"]) == ExitCode.FOUND_WRONG
    assert said()["differences"] == ["argument `width`: 3 → 4"]
    script.write_text(code.replace("x + 1", "x + 2"))
    assert run([*ask, "steps_to_explain.py:step(1)"]) == ExitCode.FOUND_WRONG
    assert said()["differences"] == ["helper `helper` changed"]
    assert run([*ask, "steps_to_explain.py:step(object())"]) == ExitCode.USAGE


def test_explain_an_entry(team, said):
    team.do("ls", NAME, "--json")
    key = said()[0]["key"]
    assert team.do("explain", key[:16], "--json") == 0
    (difference,) = said()["differences"]
    assert re.fullmatch(r"argument `x`: \d → \d", difference)


def test_verify_finds_damage_and_deletes_it(team, said):
    assert team.do("verify", "--json") == 0
    assert said() == {"checked": 9, "bad": {}, "deleted": 0}
    store = team.memory().store_backend
    torn, flipped = team.names()[:2]
    data = bytes(store.get(torn)[0])
    store.put(torn, data[:-3])
    data = bytearray(store.get(flipped)[0])
    data[-1] ^= 1
    store.put(flipped, bytes(data))
    assert team.do("verify", "--json") == ExitCode.FOUND_WRONG
    assert set(said()["bad"]) == {torn, flipped}
    assert team.do("verify", "--delete", "--yes", "--json") == 0
    assert said()["deleted"] == 2
    assert len(team.names()) == 7


def test_verify_knows_who_signed(tmp_path, said):
    key = tmp_path / "key"
    key.write_bytes(b"sixteen bytes or more")
    cache = str(tmp_path / "cache")
    Memory(cache, verbose=0, sign_key=key.read_bytes()).cache(slow)(1)
    assert run(["cache", "verify", cache, "--sign-key-file", str(key), "--json"]) == 0
    said()
    Memory(cache, verbose=0).cache(slow)(2)
    assert run(["cache", "verify", cache, "--sign-key-file", str(key), "--json"]) == 1
    assert list(said()["bad"].values()) == ["the signature is missing"]


def test_prune_keeps_the_costliest(team, said, capsys):
    before = team.names()
    assert team.do("prune", "--items", "4", "--policy", "cost", "--dry-run", "--json") == 0
    planned = said()
    assert planned["chosen"] == 5
    assert team.names() == before
    assert team.do("prune", "--items", "4", "--policy", "cost") == ExitCode.DECLINED
    assert "--yes" in capsys.readouterr().err
    assert team.names() == before
    assert team.do("prune", "--items", "4", "--policy", "cost", "--yes", "--json") == 0
    assert said()["deleted"] == 5
    assert sorted({*before} - {*planned["names"]}) == team.names()
    # Large and quick to compute: the first to go.
    assert not any(name.endswith("text") for name in {n.partition("/")[0] for n in team.names()})


def test_prune_wants_a_limit(team):
    assert team.do("prune") == ExitCode.USAGE
    assert team.do("prune", "--age", "soon") == ExitCode.USAGE
    assert team.do("prune", "--age", "30d", "--bytes", "10G", "--yes") == 0
    assert len(team.names()) == 9


def test_clear_leaves_what_is_not_ours(team, said):
    store = team.memory().store_backend
    store.put("notes/readme.txt", b"not a cache's")
    assert team.do("clear", "--function", NAME, "--yes", "--json") == 0
    assert said()["deleted"] == 8
    assert team.do("clear", "--yes") == 0
    assert team.names() == ["notes/readme.txt"]


def test_export_makes_a_cache_that_is_used(team, said, tmp_path):
    target = tmp_path / "copy"
    assert team.do("export", str(target), "--function", NAME, "--json") == 0
    assert said()["copied"] == 8
    assert team.do("export", str(target), "--json") == 0
    assert said() | {"bytes": 0} == {
        "found": 9, "copied": 1, "there_already": 8, "bytes": 0, "dry_run": False,
    }  # fmt: skip
    copied = Memory(str(target), mode="ro", verbose=0).cache(slow)
    assert copied.check_call_in_cache(3)


def test_report_draws_what_eviction_would_take(team, tmp_path):
    page = tmp_path / "cache.html"
    assert team.do("report", "--html", str(page), "--items", "4") == 0
    drawn = page.read_text()
    assert NAME in drawn
    assert "<b>9</b><span>results</span>" in drawn
    assert "eviction frees" in drawn
    assert 'class="leaving"' in drawn


def test_a_place_that_is_not_there(tmp_path, capsys, moto_server):
    assert run(["cache", "ls", str(tmp_path / "nowhere")]) == ExitCode.UNREACHABLE
    assert not (tmp_path / "nowhere").exists()
    options = tmp_path / "options.json"
    options.write_text(json.dumps(moto_server.storage_options))
    url = "s3://no-such-bucket-here/x"
    assert run(["cache", "stats", url, "--options-file", str(options)]) == ExitCode.UNREACHABLE
    assert "no-such-bucket-here" in capsys.readouterr().err


def test_secrets_are_not_shown(team, capsys):
    team.do("stats")
    team.do("ls")
    printed = capsys.readouterr()
    assert "testing-secret" not in printed.out + printed.err


@pytest.mark.parametrize(("answer", "left"), [("n", 9), ("y", 0)])
def test_clear_asks_at_a_terminal(tmp_path, answer, left):
    team = Team(str(tmp_path / "cache"), {}, [])
    team.fill()
    parent, child = pty.openpty()
    os.write(parent, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "jobspan.cli", "cache", "clear", team.url],
        stdin=child, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(parent)
    os.close(child)
    assert "Delete 9 entries" in done.stderr
    assert done.returncode == (ExitCode.DECLINED if left else 0)
    assert len(team.names()) == left


def test_looking_is_no_use(tmp_path, said):
    team = Team(str(tmp_path / "cache"), {}, [])
    team.fill()
    team.memory().cache(text)("a" * 20)  # large enough to be mapped
    old = time.time() - 3 * 86400
    files = [path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64]
    assert len(files) == 10
    for path in files:
        os.utime(path, (old, old))
    for path in files:
        assert team.do("show", path.name, "--value", "--json") == 0
        assert team.do("explain", path.name, "--json") == 0
    for looking in (["ls"], ["ls", NAME], ["stats"], ["verify"]):
        assert team.do(*looking, "--json") == 0
    assert team.do("report", "--html", str(tmp_path / "page.html")) == 0
    assert team.do("export", str(tmp_path / "copy"), "--json") == 0
    assert team.do("prune", "--age", "1d", "--dry-run") == 0
    assert team.memory().cache(slow).check_call_in_cache(3)
    assert [path.stat().st_atime for path in files] == [pytest.approx(old, abs=1)] * 10


def test_a_near_miss_of_a_name_is_told(team, capsys):
    assert team.do("ls", "script.slow") == ExitCode.NO_SUCH_ENTRY
    assert f"Did you mean {NAME!r}?" in capsys.readouterr().err


def test_explain_knows_scripts_of_joblib(tmp_path, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "script_of_joblib.py"
    script.write_text("""
from joblib import Memory
memory = Memory("cache", verbose=0)
@memory.cache
def step(x): return x * 2
print(step(1))
""")
    done = subprocess.run(
        [sys.executable, "-m", "jobspan.cli", "run", str(script)], check=True, timeout=60
    )
    assert done.returncode == 0
    assert run(["cache", "explain", "cache", "--json", "script_of_joblib.py:step(1)"]) == 0
    assert said()["stored"]
    assert run(["cache", "explain", "cache", "--json", "script_of_joblib.py:step(2)"]) == 1
    assert said()["differences"] == ["argument `x`: 1 → 2"]
