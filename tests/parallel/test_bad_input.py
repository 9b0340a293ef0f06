"""What cannot be meant is refused within seconds, with the value and what to type next."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from jobspan import Memory, Parallel, delayed, parallel_config
from jobspan.errors import (
    BackendUnreachableError,
    JobspanError,
    MissingExtraError,
    StoreLocationError,
    UnknownBackendError,
)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("spec", ["dsak", "dsak://host:1", "dask://", 3, object()])
def test_unknown_backends(spec: Any) -> None:
    for use in (lambda: Parallel(backend=spec), lambda: parallel_config(backend=spec)):
        with pytest.raises(ValueError, match=r"backend|dask://") as caught:
            use()
        assert isinstance(caught.value, UnknownBackendError)


def test_a_close_name_is_suggested() -> None:
    with pytest.raises(UnknownBackendError, match="Did you mean 'threads'"):
        Parallel(backend="thraeds")


@pytest.mark.parametrize("scheme", ["dask", "ray"])
def test_unreachable_clusters(scheme: str) -> None:
    pytest.importorskip("distributed" if scheme == "dask" else "ray")
    address = f"{scheme}://127.0.0.1:{unused_port()}"
    begin = time.monotonic()
    with pytest.raises(BackendUnreachableError, match=address) as caught:
        Parallel(n_jobs=2, backend=address)([delayed(abs)(-1)])
    assert isinstance(caught.value, ConnectionError)
    assert f"backend='{scheme}'" in str(caught.value)
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize("where", [Parallel, parallel_config])
def test_no_jobs(where: Any) -> None:
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        where(n_jobs=0)


def test_inconsistent_hints() -> None:
    with pytest.raises(ValueError, match="inconsistent settings"):
        Parallel(prefer="processes", require="sharedmem")
    with pytest.raises(ValueError, match="does not support shared memory"):
        Parallel(backend="processes", require="sharedmem")


def test_unknown_options_name_the_backend() -> None:
    with pytest.raises(TypeError, match="threads"):
        Parallel(backend="threads", number_of_cores=3)
    with pytest.raises(ValueError, match="only supported when backend is not None"):
        parallel_config(n_jobs=2, number_of_cores=3)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBSPAN_BACKEND", "threads")
    monkeypatch.setenv("JOBSPAN_N_JOBS", "3")
    parallel = Parallel()
    assert parallel([delayed(abs)(-1)] * 4) == [1] * 4
    assert (parallel.stats.backend, parallel.stats.n_jobs) == ("threads", 3)
    monkeypatch.setenv("JOBSPAN_N_JOBS", "many")
    with pytest.raises(ValueError, match="JOBSPAN_N_JOBS='many'"):
        Parallel()
    monkeypatch.setenv("JOBSPAN_BACKEND", "cluster")
    with pytest.raises(UnknownBackendError, match="cluster"):
        Parallel()


async def coroutine(x: int) -> int:
    await asyncio.sleep(0)
    return x


def test_a_call_made_too_early_is_told_at_once() -> None:
    with pytest.raises(TypeError, match=r"write delayed\(f\)\(x\)"):
        delayed(time.sleep(0))  # type: ignore[func-returns-value, arg-type]


def test_coroutine_functions_are_refused() -> None:
    with pytest.raises(TypeError, match="async function"):
        Parallel()([delayed(coroutine)(1)])


def test_locations(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StoreLocationError, match="file"):
        Memory(file)
    with pytest.raises(ValueError, match="nowhere"):
        Memory("nowhere://bucket/prefix")
    with pytest.raises(ValueError, match="mode='x'"):
        Memory(tmp_path, mode="x")  # type: ignore[arg-type]  # on purpose


def test_a_missing_bucket(moto_server: Any) -> None:
    with pytest.raises(OSError, match="no-such-bucket") as caught:
        Memory("s3://no-such-bucket/prefix", storage_options=moto_server.storage_options)
    assert isinstance(caught.value, JobspanError)


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("backend 'ray'", "ray")
    assert "pip install 'jobspan[ray]'" in str(error)
    assert isinstance(error, ImportError)
