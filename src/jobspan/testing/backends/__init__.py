"""The behaviours that every backend shares, as tests that a backend runs by deriving from a class.

A third party's backend is proved with a few lines::

    from jobspan.testing.backends import BackendConformance

    class TestMyBackend(BackendConformance):
        backend = "my-backend"

Every test is one behaviour, named by the first line of its docstring; the table of behaviours in
the documentation is made from them. Where an engine truly cannot do a thing, the class says so
(`can_kill`, `can_lose_workers`, `can_share_memory`), and the test states what happens instead.
"""

from __future__ import annotations

from jobspan.testing.backends.contexts import Contexts
from jobspan.testing.backends.data import Data
from jobspan.testing.backends.failures import Failures
from jobspan.testing.backends.generators import Generators
from jobspan.testing.backends.refusing import Refusing
from jobspan.testing.backends.results import Results
from jobspan.testing.backends.telling import Telling

__all__ = ["BackendConformance", "behaviours"]


class BackendConformance(Results, Generators, Failures, Contexts, Data, Telling, Refusing):
    """Behaviours of ``Parallel`` that are the same on every backend.

    Attributes
    ----------
    backend : str, Backend or class
        What users would pass as ``backend=``.
    options : dict
        Further options that they would pass.
    n_jobs : int
        How many calls run at once.
    can_share_memory : bool
        Calls run in the caller's memory: nothing is pickled or copied.
    can_kill : bool
        A running call can be stopped.
    can_lose_workers : bool
        Workers are processes of their own: one that dies is replaced.
    can_be_elsewhere : bool
        Workers may be on other machines, for all that the backend knows.
    sequential : bool
        Calls run one after the other in the caller's thread.
    """


def behaviours() -> dict[str, str]:
    """Return what each test of the suite shows, by the test's name."""
    return {
        name: " ".join((test.__doc__ or name).split("\n\n")[0].split())
        for part in BackendConformance.__mro__
        for name, test in vars(part).items()
        if name.startswith("test_")
    }
