"""Every public name of joblib is there, and takes what joblib's takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import joblib
import joblib.memory
import pytest

import jobspan

CLASSES = [name for name in joblib.__all__ if inspect.isclass(getattr(joblib, name))]

MISSING = {
    "Parallel.dispatch_next": "called by joblib's own callbacks; here an executor is pulled",
    "Parallel.dispatch_one_batch": "the same",
}
"""Public methods that jobspan does without, and why."""

DIFFERENT = {
    ("StoreBackendBase.configure", "backend_options"): "{} as a default is shared by all; None is",
}
"""Parameters whose default is another one, and why."""


def signatures() -> Iterator[tuple[str, Any, Any]]:
    """Yield every public function, class and method of joblib with jobspan's."""
    pairs = [(name, getattr(joblib, name), getattr(jobspan, name)) for name in joblib.__all__]
    pairs.append(("MemorizedFunc", joblib.memory.MemorizedFunc, jobspan.MemorizedFunc))
    for name, theirs, ours in pairs:
        yield name, theirs, ours
        if inspect.isclass(theirs):
            for method, value in inspect.getmembers(theirs, callable):
                public = not method.startswith("_") or method == "__call__"
                if public and f"{name}.{method}" not in MISSING:
                    yield f"{name}.{method}", value, getattr(ours, method, None)


PAIRS = list(signatures())


@pytest.mark.parametrize(("name", "theirs", "ours"), PAIRS, ids=[name for name, *_ in PAIRS])
def test_the_signature_is_joblibs(name: str, theirs: Any, ours: Any) -> None:
    """The same parameters, in that order, with those defaults; ours may follow as keywords."""
    assert ours is not None
    wanted = list(inspect.signature(theirs).parameters.values())
    found = list(inspect.signature(ours).parameters.values())
    positional = [p for p in found if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    for at, parameter in enumerate(p for p in wanted if p.kind is not p.KEYWORD_ONLY):
        assert (positional[at].name, positional[at].kind) == (parameter.name, parameter.kind)
    assert len(positional) == len([p for p in wanted if p.kind is not p.KEYWORD_ONLY])
    by_name = {parameter.name: parameter for parameter in found}
    for parameter in wanted:
        assert by_name[parameter.name].kind is parameter.kind
        if (name, parameter.name) not in DIFFERENT:
            assert repr(by_name[parameter.name].default) == repr(parameter.default)
    more = by_name.keys() - {parameter.name for parameter in wanted}
    assert all(by_name[new].default is not inspect.Parameter.empty for new in more)


@pytest.mark.parametrize("name", CLASSES)
def test_public_attributes_of_classes(name: str) -> None:
    theirs, ours = getattr(joblib, name), getattr(jobspan, name)
    public = {attribute for attribute in dir(theirs) if not attribute.startswith("_")}
    assert {a for a in public if not hasattr(ours, a)} == {
        missing.partition(".")[2] for missing in MISSING if missing.startswith(f"{name}.")
    }


@pytest.mark.parametrize("name", CLASSES)
def test_classes_derive_from_those_that_joblibs_derive_from(name: str) -> None:
    bases = [base.__name__ for base in getattr(joblib, name).__mro__[1:]]
    for base in set(bases) & set(joblib.__all__):
        assert issubclass(getattr(jobspan, name), getattr(jobspan, base))


def test_public_attributes_of_instances() -> None:
    for theirs, ours in (
        (joblib.Parallel(n_jobs=2), jobspan.Parallel(n_jobs=2)),
        (joblib.Memory(None), jobspan.Memory(None)),
        (joblib.Logger(), jobspan.Logger()),
    ):
        assert {a for a in vars(theirs) if not a.startswith("_") and not hasattr(ours, a)} == set()
