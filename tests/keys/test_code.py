"""The key of a call moves exactly when the behaviour of the code can move."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import linecache
import os
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobspan import Memory, delayed
from jobspan.errors import UnkeyableError
from jobspan.keys import FunctionKeys, call_key, digest, fingerprint

HELPERS = '''
"""A module."""
import math

FACTOR = 3
OFFSETS = [1, 2]

def clean_text(text):
    return text.strip() * FACTOR

class Scaler:
    """A class."""
    base = 10

    def __init__(self, by):
        self.by = by

    def scale(self, x):
        return x * self.by + self.base

    @property
    def twice(self):
        return self.by * 2
'''
MAIN = '''
import functools
import key_project_helpers
import key_project_helpers as tools
from key_project_helpers import Scaler, clean_text

SCALE = 2.0
UNUSED = 1

def unused(x):
    return x

def inner(x):
    return x + len(tools.OFFSETS)

def function(x, scale=1.5):
    """A docstring."""
    total = 0
    for item in x:
        total += inner(item) * scale  # a comment
    named = [clean_text(str(each)) for each in x]
    return total, named, Scaler(SCALE).scale(1)
'''
numbers = itertools.count()


@pytest.fixture
def project(tmp_path):
    """Give a function that makes a project in a folder of its own and loads it anew."""
    folders = []

    def load(main=MAIN, helpers=HELPERS):
        folder = tmp_path / f"checkout {next(numbers)}"
        folder.mkdir()
        folders.append(str(folder))
        (folder / "key_project_helpers.py").write_text(helpers)
        (folder / "key_project_main.py").write_text(main)
        sys.path.insert(0, str(folder))
        for name in ("key_project_main", "key_project_helpers"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("key_project_main")

    yield load
    for folder in folders:
        sys.path.remove(folder)
    for name in ("key_project_main", "key_project_helpers"):
        sys.modules.pop(name, None)


def key(function, *args, **kwargs):
    return call_key(function, args, kwargs).digest


def replaced(text, old, new):
    assert text.count(old) == 1, old
    return text.replace(old, new)


NEUTRAL = {
    "comment": ("main", "# a comment", "# another"),
    "no comment": ("main", "  # a comment", ""),
    "docstring": ("main", '    """A docstring."""\n', '    """Another\n\n    one."""\n'),
    "no docstring": ("main", '    """A docstring."""\n', ""),
    "formatting": ("main", "total += inner(item) * scale", "total += (inner( item )\n * scale)"),
    "blank lines": ("main", "    total = 0\n", "\n\n    total = 0\n\n"),
    "position": ("main", "SCALE = 2.0\n", "\n\n\nSCALE = 2.0\n\n\n"),
    "parentheses": ("main", "return total, named,", "return (total), named,"),
    "rename a local": (
        "main",
        "for item in x:\n        total += inner(item)",
        "for i in x:\n        total += inner(i)",
    ),
    "rename in a comprehension": ("main", "str(each)) for each in x", "str(one)) for one in x"),
    "unused function": ("main", "    return x\n\ndef inner", "    return -x\n\ndef inner"),
    "unused global": ("main", "UNUSED = 1", "UNUSED = 2"),
    "docstring of a helper's class": ("helpers", "A class.", "The class."),
    "docstring of a module": ("helpers", "A module.", "The module."),
    "unused import": ("helpers", "import math", "import cmath"),
}
TELLING = {
    "operator": ("main", "inner(item) * scale", "inner(item) + scale"),
    "constant": ("main", "total = 0", "total = 1"),
    "default": ("main", "scale=1.5", "scale=2.5"),
    "name of a parameter": ("main", "def inner(x):\n    return x", "def inner(y):\n    return y"),
    "global": ("main", "SCALE = 2.0", "SCALE = 3.0"),
    "kind of a global": ("main", "SCALE = 2.0", "SCALE = 2"),
    "helper": ("main", "return x + len", "return x - len"),
    "list in another module": ("helpers", "OFFSETS = [1, 2]", "OFFSETS = [1, 2, 3]"),
    "helper in another module": ("helpers", "text.strip()", "text.lstrip()"),
    "global of a helper": ("helpers", "FACTOR = 3", "FACTOR = 4"),
    "method": ("helpers", "x * self.by", "x / self.by"),
    "attribute of a class": ("helpers", "base = 10", "base = 11"),
    "constructor": ("helpers", "self.by = by", "self.by = -by"),
    "property": ("helpers", "self.by * 2", "self.by * 3"),
}


@pytest.mark.parametrize("edit", NEUTRAL)
def test_what_cannot_change_behaviour_keeps_the_key(project, edit):
    where, old, new = NEUTRAL[edit]
    sources = {"main": MAIN, "helpers": HELPERS}
    before = key(project().function, [1])
    sources[where] = replaced(sources[where], old, new)
    assert key(project(**sources).function, [1]) == before


@pytest.mark.parametrize("edit", TELLING)
def test_what_can_change_behaviour_moves_the_key(project, edit):
    where, old, new = TELLING[edit]
    sources = {"main": MAIN, "helpers": HELPERS}
    before = key(project().function, [1])
    sources[where] = replaced(sources[where], old, new)
    assert key(project(**sources).function, [1]) != before


# --- what changes while the program runs -------------------------------------------------------


def test_a_rebound_global_a_mutated_one_and_new_code_are_seen_at_the_next_call(project):
    module = project()
    seen = [key(module.function, [1])]
    module.SCALE = 5.0
    seen.append(key(module.function, [1]))
    module.tools.OFFSETS.append(7)
    seen.append(key(module.function, [1]))
    module.function.__defaults__ = (9,)
    seen.append(key(module.function, [1]))
    module.inner.__code__ = (lambda x: -x).__code__
    seen.append(key(module.function, [1]))
    module.tools.Scaler.base = 99
    seen.append(key(module.function, [1]))
    module.tools.Scaler.scale = lambda self, x: 0
    seen.append(key(module.function, [1]))
    module.clean_text = str.upper
    seen.append(key(module.function, [1]))
    assert len(set(seen)) == len(seen)


def test_a_global_set_back_gives_the_first_key_again(project):
    module = project()
    before = key(module.function, [1])
    module.SCALE = 5.0
    assert key(module.function, [1]) != before
    module.SCALE = 2.0
    assert key(module.function, [1]) == before


def test_an_array_that_a_function_reads_is_looked_at_at_each_call():
    weights = np.zeros(3)

    def function(x):
        return weights @ x

    before = key(function, 1)
    weights[1] = 1
    assert key(function, 1) != before
    weights[1] = 0
    assert key(function, 1) == before


def test_closures():
    def make(factor):
        def function(x):
            return factor * x

        return function

    assert key(make(2), 1) == key(make(2), 1) != key(make(3), 1)
    nested = make(make(2))
    assert key(nested, 1) == key(make(make(2)), 1) != key(make(make(3)), 1)


def test_a_variable_of_a_closure_that_changes():
    def make():
        count = 0

        def function(x):
            return x + count

        def more():
            nonlocal count
            count += 1

        return function, more

    function, more = make()
    before = key(function, 1)
    more()
    assert key(function, 1) != before


def test_functions_that_call_each_other():
    def make(base):
        def even(n):
            return base if n == 0 else odd(n - 1)

        def odd(n):
            return not base if n == 0 else even(n - 1)

        return even

    assert key(make(True), 3) == key(make(True), 3) != key(make(False), 3)


def test_a_table_of_functions_that_holds_its_reader():
    def make(step):
        def up(x):
            return x + step

        def run(name, x):
            return table[name](x)

        table = {"run": run, "up": up}
        return run

    assert key(make(1), "up", 1) == key(make(1), "up", 1) != key(make(2), "up", 1)


def test_two_helpers_of_one_name_do_not_hide_each_other(project):
    main = (
        "from key_project_helpers import run\n"
        "def clean(x): return x\n"
        "def function(x): return clean(run(x))\n"
    )
    helpers = "def clean(x): return x + 1\ndef run(x): return clean(x)\n"
    before = key(project(main, helpers).function, 1)
    assert key(project(main, helpers.replace("+ 1", "+ 2")).function, 1) != before
    assert key(project(main.replace("x): return x\n", "x): return -x\n"), helpers).function, 1) != (
        before
    )


def test_helpers_that_change_places():
    def make(first, second):
        def function(x):
            return first(x) - second(x)

        return function

    def one(x):
        return 1

    def two(x):
        return 2

    assert key(make(one, two), 1) != key(make(two, one), 1)
    assert key(make(one, one), 1) != key(make(one, two), 1)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@pytest.mark.parametrize(
    "wrap",
    [
        decorated,
        functools.lru_cache,
        functools.cache,
        functools.singledispatch,
        lambda f: functools.partial(f),
        lambda f: Memory(None).cache(f),
        lambda f: Memory("memory://test-code", verbose=0).cache(f),
        lambda f: np.vectorize(f),
        lambda f: [f],
        lambda f: {"f": (f,)},
        lambda f: types.SimpleNamespace(call=f),
        lambda f: type("Holder", (), {"call": f}),
        lambda f: type("Holder", (), {"call": property(f)})(),
        lambda f: types.MethodType(f, 3),
        delayed,
    ],
)
def test_a_helper_counts_however_it_is_wrapped(wrap):
    def make(factor):
        def helper(x):
            return factor * x

        wrapped = wrap(helper)

        def function(x):
            return wrapped

        return function

    assert key(make(2), 1) == key(make(2), 1) != key(make(3), 1)


def test_functions_registered_for_a_type_count():
    def make(factor):
        @functools.singledispatch
        def general(x):
            return x

        @general.register
        def _(x: int):
            return factor * x

        return lambda x: general(x)

    assert key(make(2), 1) == key(make(2), 1) != key(make(3), 1)


def test_where_results_are_stored_does_not_count(tmp_path):
    def make(location):
        memory = Memory(location, verbose=0)
        return lambda x: memory.eval(abs, x)

    assert key(make(tmp_path / "a"), 1) == key(make(tmp_path / "b"), 1)


def test_a_class_of_fields_has_one_key_with_and_without_its_source(tmp_path):
    source = (
        "import dataclasses\n"
        "@dataclasses.dataclass{}\n"
        "class Fields:\n"
        "    x: int = {}\n"
        "    y: list = dataclasses.field(default_factory=list)\n"
    )

    def made(text, cell):
        scope = {"__name__": "__main__"}
        return digest((cells(text) if cell else exec(text, scope) or scope)["Fields"](1, []))

    first = made(source.format("", 1), True)
    assert made(source.format("", 1), False) == first
    assert made(source.format("", 2), True) != first
    assert made(source.format("(order=True)", 1), True) != first


def test_decorators_of_memory_make_no_difference(project):
    plain = "def function(x):\n    return x + 1\n"
    head = "from jobspan import Memory\nimport functools\nmemory = Memory(None)\n"
    keys = {
        key(project(head + above + plain).function, 1)
        for above in ("", "@memory.cache\n", "@memory.cache()\n", "@memory.cache\n@memory.cache\n")
    }
    assert len(keys) == 1


def test_partials():
    def function(x, y, z=1):
        return x + y + z

    partial = functools.partial
    assert key(partial(function, 1), 2) == key(partial(function, 1), 2)
    assert key(partial(function, 1), 2) != key(partial(function, 2), 2)
    assert key(partial(function, z=1), 2, 3) != key(partial(function, z=2), 2, 3)


def test_lambdas_of_one_line_are_told_apart():
    one, two = (lambda x: x + 1), (lambda x: x + 2)
    again = lambda x: x + 1  # noqa: E731
    assert fingerprint(one).digest != fingerprint(two).digest
    assert fingerprint(one).digest == fingerprint(again).digest


class Model:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, x):
        return self.helper(x)

    def helper(self, x):
        return self.factor * x

    @classmethod
    def make(cls, x):
        return cls(x)

    @staticmethod
    def static(x):
        return x


class Other(Model):
    def helper(self, x):
        return 0


def test_methods_are_keyed_by_the_state_and_the_class_of_self():
    assert key(Model(2).predict, 1) == key(Model(2).predict, 1) != key(Model(3).predict, 1)
    assert key(Model(2).predict, 1) != key(Other(2).predict, 1)
    assert key(Model(2).predict, 1) == key(Model.predict, Model(2), 1)
    assert key(Model.make, 1) != key(Other.make, 1)
    assert key(Model.static, 1) == key(Model(5).static, 1)
    keys = FunctionKeys(Model(2).predict, ignore=["self"])
    other = FunctionKeys(Model(3).predict, ignore=["self"])
    assert keys.key((1,), {}).digest == other.key((1,), {}).digest


def test_an_edited_method_that_self_calls_moves_the_key():
    def make(sign):
        class Local:
            def run(self, x):
                return self.step(x)

            def step(self, x):
                return sign * x

        return Local()

    assert key(make(1).run, 1) == key(make(1).run, 1) != key(make(-1).run, 1)


# --- where code comes from ---------------------------------------------------------------------


def test_installed_packages_count_by_name_and_version():
    def function(x):
        return np.mean(x) + len(os.fspath("."))

    components = fingerprint(function).components
    assert components["package numpy"] == np.__version__
    assert set(components) == {"function source", "function names", "package numpy"}


def test_names_imported_from_packages_count_by_version_too():
    from numpy import ndarray, sqrt

    def function(x):
        return sqrt(x) if isinstance(x, ndarray) else x

    assert fingerprint(function).components["package numpy"] == np.__version__


def test_modules_imported_within_functions(project):
    main = (
        "def function(x):\n"
        "    from key_project_helpers import clean_text\n"
        "    return clean_text(x)\n"
    )
    before = key(project(main).function, "a")
    assert key(project(main).function, "a") == before
    module = project(main)
    fresh = key(module.function, "a")
    module.function("a")
    assert key(module.function, "a") == fresh, "the same before and after it is imported"
    edited = HELPERS.replace("text.strip()", "text.lstrip()")
    assert key(project(main, edited).function, "a") != before
    assert key(project(main, HELPERS + "# comment\n").function, "a") == before


def run(source, folder, name="script.py"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(source)
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_functions_of_scripts(tmp_path):
    source = (
        "from jobspan.keys import call_key\n"
        "def helper(x): return x + 1\n"
        "def function(x): return helper(x)\n"
        "print(call_key(function, (1,), {}).digest)\n"
    )
    first = run(source, tmp_path / "a")
    assert run("# a comment\n" + source, tmp_path / "b", "other.py") == first
    assert run(source.replace("+ 1", "+ 2"), tmp_path / "c") != first


def test_what_travels_by_value_has_one_key_here_and_there(tmp_path):
    source = """
import dataclasses, subprocess, sys
import cloudpickle
from jobspan.keys import digest

SCALE = 2

def helper(x):
    return x * SCALE

@dataclasses.dataclass
class Fields:
    x: int

class Methods:
    def __init__(self, x):
        self.x = x

    @property
    def scaled(self):
        return helper(self.x)

def function(x):
    return helper(x), Fields(1), Methods(2)

def inside():
    class Bare:
        pass

    class Local:
        def scaled(self):
            return helper(self)

    return Bare, Local, Bare(), Local()

things = (function, Fields(1), Methods(2), Methods(3).__init__, lambda x: x + SCALE, *inside())
here = [digest(thing) for thing in things]
other = "import sys, pickle; from jobspan.keys import digest; "
other += "print([digest(each) for each in pickle.load(sys.stdin.buffer)])"
data = cloudpickle.dumps(things)
done = subprocess.run([sys.executable, "-c", other], input=data, capture_output=True, check=True)
print(done.stdout.decode().strip() == str(here))
"""
    assert run(source, tmp_path / "a") == "True\n"


def cells(*sources):
    """Run cells as a notebook does; return its names."""
    scope = {"__name__": "__main__"}
    for source in sources:
        filename = f"<cell {next(numbers)}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec"), scope)
    return scope


def test_cells_of_notebooks():
    first = cells("def helper(x): return x\n", "def function(x):\n    return helper(x)\n")
    again = cells("1\n", "def function(x):\n    return helper(x)\n", "def helper(y_is_x): pass\n")
    same = cells("\n\ndef helper(x): return x # again\n", "def function(x): return helper(x)\n")
    keys = [key(scope["function"], 1) for scope in (first, again, same)]
    assert keys[0] == keys[2] != keys[1]
    exec("helper = lambda x: 5", first)
    assert key(first["function"], 1) != keys[0]


def test_a_real_notebook_hits_after_its_kernel_is_restarted():
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")

    def outcome(helper):
        sources = [
            "import asyncio\nawait asyncio.sleep(0)\nfrom jobspan.keys import call_key",
            helper,
            "await asyncio.sleep(0)\ndef function(x):\n    return helper(x)",
            "print(call_key(function, (1,), {}).digest)",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
        client.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
        return notebook.cells[-1].outputs[0].text

    first = outcome("def helper(x): return x")
    assert outcome("# restarted\ndef helper(x):\n    return x") == first
    assert outcome("def helper(x): return -x") != first


def test_functions_without_source_are_keyed_by_bytecode():
    def make(source):
        scope = {}
        exec(source, scope)
        return scope["f"]

    source = "def f(x):\n    return x in {1, 'a', 'b', 'c'}\n"
    assert key(make(source), 1) == key(make(source), 1)
    assert key(make(source), 1) != key(make(source.replace("'c'", "'d'")), 1)
    assert key(make(source), 1) != key(make(source.replace("in", "not in")), 1)
    calls = "def g(x): return {}\ndef f(x): return g(x)\n"
    assert key(make(calls.format(1)), 1) != key(make(calls.format(2)), 1)


def test_a_file_edited_under_a_running_program_does_not_speak_for_it(project):
    module = project()
    path = Path(module.__file__)
    path.write_text(path.read_text().replace("total = 0", "total = 1"))
    assert key(module.function, [1]) != key(project(path.read_text()).function, [1])


def test_what_has_no_key_says_who_reads_it():
    lock = threading.Lock()

    def function(x):
        with lock:
            return x

    with pytest.raises(UnkeyableError, match="lock") as caught:
        key(function, 1)
    assert "version=" in "".join(caught.value.__notes__)
    assert call_key(function, (1,), {}, version=1).digest


def test_functions_that_are_gone_leave_nothing_behind():
    from jobspan.keys.fingerprint import _watches

    def make():
        def function(x):
            return x

        return function

    fingerprint(make())
    gc.collect()
    before = len(_watches)
    for _ in range(50):
        function = make()
        gone = weakref.ref(function)
        fingerprint(function)
    del function
    gc.collect()
    assert gone() is None
    assert len(_watches) <= before


# --- random programs ---------------------------------------------------------------------------

names = ["total", "each", "value", "renamed"]


@st.composite
def programs(draw):
    """Draw a chain of helpers, each with a constant, a local and a callee."""
    size = draw(st.integers(2, 5))
    return [
        {
            "constant": draw(st.integers(0, 9)),
            "local": draw(st.sampled_from(names)),
            "callee": draw(st.one_of(st.none(), st.integers(0, size - 1))),
            "comment": draw(st.sampled_from(["", "# a", "# b"])),
            "default": draw(st.integers(0, 3)),
            "global": draw(st.integers(0, 3)),
            "shape": draw(st.sampled_from(["loop", "comprehension", "nested"])),
        }
        for _ in range(size)
    ]


def written(program):
    parts = []
    for number, one in enumerate(program):
        local = one["local"]
        parts.append(f"GLOBAL_{number} = {one['global']}")
        parts.append(f"def f{number}(x, default={one['default']}):  {one['comment']}")
        parts.append(f"    {local} = x + {one['constant']} + GLOBAL_{number}")
        if one["shape"] == "loop":
            parts.append(f"    for {local}_item in range(2):\n        {local} += {local}_item")
        elif one["shape"] == "comprehension":
            parts.append(f"    {local} = sum({local} for {local} in [{local}])")
        else:
            parts.append(f"    def nested(y):\n        nonlocal {local}\n        {local} += y")
            parts.append("        return y\n    nested(1)")
        call = local if one["callee"] is None else f"f{one['callee']}({local})"
        parts.append(f"    return {call} if x < 9 else {local}")
    return "\n".join(parts) + "\n"


def reached(program):
    """Return the functions that the first one calls, itself among them."""
    found, queue = set(), [0]
    while queue:
        number = queue.pop()
        if number not in found:
            found.add(number)
            callee = program[number]["callee"]
            queue += [] if callee is None else [callee]
    return found


def key_of(program):
    return key(cells(written(program))["f0"], 1)


edits = st.tuples(
    st.integers(0, 4),
    st.sampled_from(["constant", "local", "callee", "comment", "default", "global"]),
)


@given(programs(), st.lists(edits, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_edits_move_the_key_exactly_when_behaviour_can_move(program, some):
    before = key_of(program)
    edited = [dict(one) for one in program]
    for number, what in some:
        one = edited[number % len(edited)]
        if what == "local":
            one["local"] = names[(names.index(one["local"]) + 1) % len(names)]
        elif what == "callee":
            one["callee"] = None if one["callee"] is not None else 0
        elif what == "comment":
            one["comment"] += " # more"
        else:
            one[what] += 1

    def behaviour(some_program):
        counts = ("constant", "callee", "default", "global", "shape")
        return {
            number: tuple(some_program[number][name] for name in counts)
            for number in reached(some_program)
        }

    assert (key_of(edited) == before) == (behaviour(edited) == behaviour(program))
