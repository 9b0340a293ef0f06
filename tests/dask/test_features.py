"""What the Dask backend adds: options of tasks, output of workers, changing clusters, nesting."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import logging
import os
import socket
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobspan import Memory, Parallel, delayed, parallel_config
from jobspan.backends.choosing import close_shared_backends
from jobspan.errors import JobspanWarning, TaskTimeoutError

np = pytest.importorskip("numpy")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(90)


def square(x: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return x * x


def where(x: int) -> str:
    return str(distributed.get_worker().name)


def my_priority(x: int) -> Any:
    worker = distributed.get_worker()
    task = worker.state.tasks[worker.get_current_task()]
    return -task.priority[0], task.annotations


def test_resources_priority_and_annotations_per_context_and_per_call(deployment: Any) -> None:
    special = deployment.add_worker("--resources", "GPU=1")
    deployment.wait_for(3)
    with parallel_config(deployment.url, resources={"GPU": 1}, priority=3):
        assert set(Parallel(batch_size=1)(delayed(where)(x) for x in range(12))) == {special}
        assert Parallel()([delayed(my_priority)(1)])[0][0] == 3
    with parallel_config(deployment.url):
        named = Parallel(batch_size=1, workers=[special])(delayed(where)(x) for x in range(12))
        assert set(named) == {special}
        assert Parallel(priority=7)([delayed(my_priority)(1)])[0][0] == 7
        _, annotations = Parallel(annotations={"team": "blue"})([delayed(my_priority)(1)])[0]
        assert annotations["team"] == "blue"
        with pytest.raises(TypeError, match=r"colour='red'.*resources, priority"):
            Parallel(colour="red")
    deployment.kill(special)
    deployment.wait_for(2)


def test_names_on_the_dashboard(deployment: Any) -> None:
    with deployment.client() as client, parallel_config(deployment.url):
        Parallel()(delayed(square)(x) for x in range(5))
        names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
    assert "square" in names
    assert not any("jobspan" in name for name in names)


def test_the_scheduler_adds_all_calls_up_in_one_span(deployment: Any) -> None:
    """Spans stay on the scheduler for ever, and each call would begin one of its own."""

    def spans(dask_scheduler: Any) -> list[str]:
        return [span.name[0] for span in dask_scheduler.extensions["spans"].spans.values()]

    with deployment.client() as client, parallel_config(deployment.url):
        before = client.run_on_scheduler(spans)
        for _ in range(5):
            Parallel()(delayed(square)(x) for x in range(3))
            Parallel(keep_results=True)(delayed(square)(x) for x in range(3))
        with distributed.span("mine"):
            Parallel()(delayed(square)(x) for x in range(3))
        begun = client.run_on_scheduler(spans)[len(before) :]
    assert begun in (["jobspan", "mine"], ["mine"])


def holders(array: Any, key: str) -> int:
    """Return how many workers hold the array."""
    found = distributed.get_client().who_has()
    return max(len(workers) for name, workers in found.items() if str(name).startswith(key))


def test_what_calls_share_is_copied_to_the_workers_that_may_run_them(deployment: Any) -> None:
    def found(n_jobs: int) -> list[int]:
        array = np.full(500_000, float(n_jobs))
        with parallel_config(deployment.url, n_jobs=n_jobs):
            told = Parallel(batch_size=1)(delayed(holders)(array, "ndarray") for _ in range(6))
        close_shared_backends()
        return told

    assert max(found(2)) == 2
    assert found(1)[0] == 1  # Dask may have the next one run elsewhere, and fetch it there


def chatter(x: int) -> int:
    print("printed", x)
    print("complained", x, file=sys.stderr)
    logging.getLogger("users.own").info("logged %s", x)
    return x


def test_output_and_logs_of_workers_come_back(
    deployment: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), parallel_config(deployment.url):
        assert Parallel()(delayed(chatter)(x) for x in range(3)) == [0, 1, 2]
    told = capsys.readouterr()
    assert [told.out.count(f"printed {x}\n") for x in range(3)] == [1, 1, 1]
    assert [told.err.count(f"complained {x}\n") for x in range(3)] == [1, 1, 1]
    records = [r.getMessage() for r in caplog.records if r.name == "users.own"]
    assert sorted(records) == ["logged 0", "logged 1", "logged 2"]


def failing_initializer() -> None:
    raise LookupError("no licence")


def test_an_initializer_that_raises(deployment: Any) -> None:
    with parallel_config(deployment.url), pytest.raises(LookupError, match="no licence"):
        Parallel(initializer=failing_initializer)(delayed(square)(x) for x in range(3))


def test_performance_report(deployment: Any, tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    whole, one = tmp_path / "whole.html", tmp_path / "one.html"
    with parallel_config(deployment.url, performance_report=whole):
        Parallel(performance_report=str(one))(delayed(square)(x) for x in range(5))
        assert "Task Stream" in one.read_text()
        assert not whole.exists()
    assert "Task Stream" in whole.read_text()


def test_the_cluster_grows_and_shrinks() -> None:
    sizes: list[int] = []
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        cluster.adapt(minimum=0, maximum=4, interval="100ms", target_duration="1s", wait_count=3)
        with parallel_config("dask", client=client, n_jobs=-1):
            parallel = Parallel(
                batch_size=1, progress=lambda event: sizes.append(len(cluster.workers))
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", JobspanWarning)
                results = parallel(delayed(square)(x, 0.1) for x in range(120))
        assert results == [x * x for x in range(120)]
        assert max(sizes) == 4
        deadline = time.monotonic() + 20
        while cluster.workers:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def count(depth: int) -> int:
    if depth == 0:
        return 1
    return sum(Parallel(n_jobs=2)(delayed(count)(depth - 1) for _ in range(2)))


def count_generated(n: int) -> int:
    return sum(Parallel(return_as="generator")(delayed(square)(x) for x in range(n)))


def test_nested_three_deep_on_one_thread(small_client: Any) -> None:
    with parallel_config("dask", client=small_client):
        assert Parallel()([delayed(count)(3)] * 2) == [8, 8]
        assert Parallel()([delayed(count_generated)(4)] * 2) == [14, 14]
        # With a time limit calls run in threads of their own, which have no place in the pool.
        assert Parallel(task_timeout=60)([delayed(count)(2)] * 2) == [4, 4]


def call_dask_inside(n: int) -> int:
    with parallel_config("dask"):
        return sum(Parallel()(delayed(square)(x) for x in range(n)))


def call_with_worker_client(n: int) -> int:
    with distributed.worker_client() as client, parallel_config("dask", client=client):
        first = sum(Parallel()(delayed(square)(x) for x in range(n)))
        return first + sum(Parallel()(delayed(square)(x) for x in range(n)))


def test_inside_dask_tasks(small_client: Any) -> None:
    futures = [
        small_client.submit(function, 4, pure=False)
        for function in (call_dask_inside, call_with_worker_client) * 2
    ]
    assert small_client.gather(futures) == [14, 28, 14, 28]
    # The worker's pool has its one thread again: two tasks run one after the other.
    begin = time.monotonic()
    small_client.gather(small_client.map(square, [1, 2], seconds=0.4, pure=False))
    assert time.monotonic() - begin >= 0.8


def spin(x: int) -> None:
    while True:
        x += 1


def test_a_call_that_is_given_up_ends(small_client: Any) -> None:
    with parallel_config("dask", client=small_client):
        with pytest.raises(TaskTimeoutError, match=r"task_timeout=0\.5"):
            Parallel(task_timeout=0.5)([delayed(spin)(1)])
        names = "".join(
            small_client.run(
                lambda: [t.name for t in __import__("threading").enumerate()]
            ).popitem()[1]
        )
        deadline = time.monotonic() + 10
        while "jobspan-timed-call" in names:
            assert time.monotonic() < deadline
            names = "".join(
                small_client.run(
                    lambda: [t.name for t in __import__("threading").enumerate()]
                ).popitem()[1]
            )
        assert Parallel()([delayed(square)(3)]) == [9]


def test_n_jobs_caps_what_runs(deployment: Any) -> None:
    with parallel_config(deployment.url, n_jobs=1):
        parallel = Parallel(batch_size=1)
        parallel(delayed(square)(x, 0.02) for x in range(20))
    spans = sorted((span.started, span.started + span.seconds) for span in parallel.stats.spans)
    assert all(end <= begin + 0.005 for (_, end), (begin, _) in pairwise(spans))


class Counted:
    """A large function, by what it holds."""

    def __init__(self) -> None:
        self.table = {str(n): n for n in range(20_000)}

    def __call__(self, x: int) -> int:
        return self.table[str(x)]


def test_what_is_shared_is_scattered_once_a_context(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered: list[Any] = []
    scatter = distributed.Client.scatter

    def counting(self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        scattered.append(data)
        return scatter(self, data, *args, **kwargs)

    monkeypatch.setattr(distributed.Client, "scatter", counting)
    array = np.arange(300_000)
    function = Counted()

    def use(holder: Any) -> int:
        return int(holder["deep"][0][-1])

    with parallel_config(deployment.url):
        for _ in range(3):
            assert Parallel()([delayed(use)({"deep": [array]})] * 4) == [299_999] * 4
        assert len(scattered) == 1
        for _ in range(3):
            assert Parallel()(delayed(function)(x) for x in range(4)) == [0, 1, 2, 3]
        assert len(scattered) == 2
        assert any("ndarray" in name for name in deployment.tasks())
    deadline = time.monotonic() + 5
    while deployment.tasks():
        assert time.monotonic() < deadline, "what was scattered is dropped with the context"


def test_nothing_is_held_between_calls_outside_of_a_block(deployment: Any) -> None:
    array = np.arange(300_000)
    assert Parallel(backend=deployment.url)([delayed(len)(array)] * 4) == [300_000] * 4
    deadline = time.monotonic() + 5
    while deployment.tasks():
        assert time.monotonic() < deadline
    close_shared_backends()


def test_many_bytes_of_plain_values(deployment: Any) -> None:
    big = [str(x) for x in range(300_000)]
    with parallel_config(deployment.url), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Parallel(batch_size=1)([delayed(len)(big)] * 3) == [300_000] * 3


def slow_double(x: int) -> tuple[int, int]:
    return 2 * x, os.getpid()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_the_scheduler_keeps_no_arguments(deployment: Any) -> None:
    def megabytes() -> float:
        statm = Path(f"/proc/{deployment.scheduler.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    calls = [delayed(len)(bytes(100_000 + x)) for x in range(500)]
    with parallel_config(deployment.url):
        parallel = Parallel(batch_size=1)
        parallel(calls[:20])
        before = megabytes()
        assert parallel(calls) == [100_000 + x for x in range(500)]
        assert megabytes() - before < 25


def test_a_cache_on_a_bucket_is_used_by_the_workers(
    deployment: Any, moto_server: Any, fresh_prefix: Any
) -> None:
    url = f"{moto_server.bucket_url('jobspan-dask')}/{fresh_prefix()}"
    memory = Memory(url, storage_options=moto_server.storage_options, verbose=0)
    cached = memory.cache(slow_double)
    with parallel_config(deployment.url):
        first = Parallel()(delayed(cached)(x) for x in range(6))
        parallel = Parallel()
        again = parallel(delayed(cached)(x) for x in range(6))
    assert [value for value, _ in first] == [0, 2, 4, 6, 8, 10]
    assert os.getpid() not in {pid for _, pid in first}
    assert again == first
    assert parallel.stats.recalled == 6


def make_certificate(folder: Path) -> tuple[str, str]:
    """Return the paths of a certificate for this machine, which signs itself, and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(certificate_path), str(key_path)


def test_a_tls_cluster(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    certificate, key = make_certificate(tmp_path)
    security = distributed.Security(
        tls_ca_file=certificate,
        tls_client_cert=certificate,
        tls_client_key=key,
        tls_scheduler_cert=certificate,
        tls_scheduler_key=key,
        tls_worker_cert=certificate,
        tls_worker_key=key,
        require_encryption=True,
    )
    array = np.arange(300_000)
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tls://",
        security=security,
        dashboard_address=":0",
    ) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        with parallel_config(cluster.scheduler_address, security=security):
            assert Parallel()([delayed(len)(array)] * 4) == [300_000] * 4


def test_clusters_that_begin_at_once_leave_dask_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each thread's block has a cluster of its own; the first to end lets none of them speak."""
    import dask
    from jobspan.backends.dask.connecting import close, start_cluster

    options = {"processes": False, "dashboard_address": None}
    before = dask.config.get("temporary-directory", None)
    levels = [handler.level for handler in logging.getLogger("distributed").handlers]
    with ThreadPoolExecutor(3) as pool:
        clients = list(pool.map(lambda _: start_cluster(1, options), range(3)))
    for client in clients:
        assert client.submit(abs, -1).result() == 1
        close(client, own_cluster=True)
    assert dask.config.get("temporary-directory", None) == before
    assert [handler.level for handler in logging.getLogger("distributed").handlers] == levels
    assert "distributed." not in capfd.readouterr().err


def test_a_second_cluster_on_this_machine_starts_without_a_warning() -> None:
    from jobspan.backends.dask.connecting import close, start_cluster

    with socket.socket() as other, warnings.catch_warnings():
        with contextlib.suppress(OSError):  # there is another cluster indeed
            other.bind(("127.0.0.1", 8787))
            other.listen()
        warnings.simplefilter("error", UserWarning)
        close(start_cluster(1, {}), own_cluster=True)
