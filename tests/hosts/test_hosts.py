"""Pipelines over several hosts, while wires are pulled, slow down, and the driver dies."""

from __future__ import annotations

import time

import pytest
from clusters import DaskCluster, RayCluster
from network import Network, reason_why_not

pytestmark = pytest.mark.timeout(900)  # on a busy machine: what waits has limits of its own


@pytest.fixture(scope="session")
def namespaces():
    reason = reason_why_not()
    if reason:
        pytest.skip(reason)


def _cluster(kind):
    with Network() as network:
        yield kind(network)


@pytest.fixture(scope="module")
def dask_cluster(namespaces):
    yield from _cluster(DaskCluster)


@pytest.fixture(scope="module")
def ray_cluster(namespaces):
    yield from _cluster(RayCluster)


@pytest.fixture(params=["dask_cluster", pytest.param("ray_cluster", marks=pytest.mark.soak)])
def cluster(request):
    return request.getfixturevalue(request.param)


def is_right(run, files):
    answer = run.end()
    assert answer["right"], answer
    assert {number for number, _ in run.computed()} <= set(range(files))
    assert run.cluster.lost() == []
    return answer


def test_the_pipeline_and_a_driver_that_dies(cluster):
    """Started again, it resumes from the cache: nothing that was stored is computed again."""
    first = cluster.run(files=30)
    first.wait_until(12)
    first.kill()
    time.sleep(2.0)  # what had begun ends
    stored = cluster.stored(first.cache)
    assert stored >= 12
    computed = {number for number, _ in first.computed()}
    second = cluster.run(cache=first.cache, files=30)
    answer = is_right(second, 30)
    assert answer["recalled"] >= stored
    again = {number for number, _ in second.computed()}
    assert len(again) <= 30 - stored
    assert computed | again == set(range(30))
    hosts = {host for _, host in (*first.computed(), *second.computed())}
    assert hosts == {worker.name for worker in cluster.workers}


def test_a_worker_is_unplugged_and_plugged_in_again(cluster):
    run = cluster.run(files=40)
    run.wait_until(8)
    with cluster.workers[0].unplugged(4):
        pass
    is_right(run, 40)


@pytest.mark.soak
def test_a_worker_is_unplugged_for_longer(cluster):
    run = cluster.run(files=40)
    run.wait_until(8)
    with cluster.workers[1].unplugged(25):
        pass
    is_right(run, 40)


@pytest.mark.parametrize("means", ["netem", "relay"])
def test_fifty_milliseconds_and_five_percent_lost(cluster, means):
    slowed = [getattr(host, means) for host in (cluster.workers[0], cluster.driver)]
    with slowed[0](50, 5), slowed[1](50, 5):
        is_right(cluster.run(files=12), 12)


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_the_store_is_gone_for_a_while(cluster, seconds):
    files = 3 * seconds
    run = cluster.run(files=files, pause=0.5)
    run.wait_until(6)
    with cluster.store.unplugged(seconds):
        pass
    is_right(run, files)
    assert cluster.stored(run.cache) >= 6
    again = cluster.run(cache=run.cache, files=files, pause=0.5)
    assert is_right(again, files)["recalled"] >= 6
