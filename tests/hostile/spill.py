"""A run that handles secrets and writes all it can: ``python spill.py FOLDER ENDPOINT ECHO``."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import traceback
import warnings
from pathlib import Path

from jobspan import Memory, Parallel, delayed, parallel_config
from jobspan.backends.dask.backend import DaskBackend
from jobspan.codecs.signing import read_sign_key
from jobspan.memory.naming import entry_name
from jobspan.store import open_store
from jobspan.testing.faults import FailingStore

CANARIES = {
    name: f"canary{number:02}x{name.replace('_', '')}y7f3a9"
    for number, name in enumerate(
        (
            "key",
            "secret",
            "session_token",
            "password",
            "account_key",
            "client_secret",
            "refresh_token",
            "header",
            "url_user",
            "url_password",
            "query",
            "sign_key",
            "address",
            "proxy_password",
            "customer_key",
            "global",
        )
    )
}


def count(x):
    return x + 1


def fails(x):
    raise ValueError(x)


PASSWORD = CANARIES["global"]


def reads_a_password(x):
    return len(PASSWORD) + x


def attempt(what):
    """Write the whole traceback of what fails."""
    try:
        print(what())
    except Exception:
        traceback.print_exc()


def s3_options(endpoint):
    return {
        "key": CANARIES["key"],
        "secret": CANARIES["secret"],
        "token": CANARIES["session_token"],
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {
            "connect_timeout": 1,
            "read_timeout": 2,
            "retries": {"max_attempts": 1},
            "proxies": {},
        },
    }


def show(thing):
    print(repr(thing), str(thing), getattr(thing, "_repr_html_", str)())


def show_config(backend):
    with parallel_config(backend=backend) as config:
        show(config)


def work(folder, endpoint, echo):
    warnings.simplefilter("always")
    logging.basicConfig(filename=folder / "log.txt", level=logging.INFO)
    logging.getLogger("jobspan").setLevel(logging.DEBUG)
    options = s3_options(endpoint)
    sign_key = CANARIES["sign_key"].encode()
    url = "s3://secrets/cache"
    for engine in ("fsspec", "obstore"):
        attempt(lambda engine=engine: show(open_store(url, storage_options=options, engine=engine)))
    memory = Memory(
        url, storage_options=options, sign_key=sign_key, local_tier=folder / "tier", verbose=100
    )
    function = memory.cache(count)
    report = folder / "report.html"
    with parallel_config(backend="processes", n_jobs=2, verbose=100), Parallel() as parallel:
        print(parallel(delayed(function)(x) for x in range(6)))
        Path(report).write_text(parallel.stats.to_html())
        show(parallel)
    attempt(lambda: Parallel(n_jobs=2)(delayed(memory.cache(fails))(x) for x in range(3)))
    shelved = function.call_and_shelve(1)
    for thing in (memory, function, memory.store_backend, memory._cache, shelved):
        show(thing)
    key = function._keys.key((1,), {})
    (folder / "key.pickle").write_bytes(pickle.dumps(key))
    (folder / "entry").write_bytes(bytes(memory.store_backend.get(entry_name(key))[0]))
    reads = memory.cache(reads_a_password)
    reads(1)
    (folder / "other").write_bytes(
        bytes(memory.store_backend.get(entry_name(reads._keys.key((1,), {})))[0])
    )
    print(reads.explain(2), function.explain(99), memory.stats(), memory.verify())
    show(read_sign_key(sign_key))
    attempt(lambda: Memory(url, storage_options=options, sign_key=CANARIES["sign_key"][:9]))

    # What fails, in every way that can be had here.
    nobody = {**options, "endpoint_url": "http://127.0.0.1:9"}
    for location, given in {
        "s3://secrets/other": nobody,
        "s3://secrets/echo": {**options, "endpoint_url": echo},
        "s3://secrets/user": {
            **options,
            "endpoint_url": f"http://{CANARIES['url_user']}:{CANARIES['url_password']}@127.0.0.1:9",
        },
        "s3://secrets/proxy": {
            **nobody,
            "config_kwargs": {
                **options["config_kwargs"],
                "proxies": {"http": f"http://someone:{CANARIES['proxy_password']}@127.0.0.1:9"},
            },
        },
        "s3://secrets/customer": {
            **options,
            "endpoint_url": echo,
            "s3_additional_kwargs": {
                "SSECustomerKey": CANARIES["customer_key"][:32].ljust(32, "x"),
                "SSECustomerAlgorithm": "AES256",
            },
        },
        f"s3://{CANARIES['url_user']}:{CANARIES['url_password']}@secrets/x": nobody,
        "s3://no-such-bucket-here/x": options,
        "s3://secrets/y": {**options, "unknown_option": 3},
        "s3://secrets/z": {**options, "client_kwargs": {"aws_secret_access_key": 1}},
        "gs://secrets/x": {
            "token": {
                "client_id": "a",
                "client_secret": CANARIES["client_secret"],
                "refresh_token": CANARIES["refresh_token"],
                "type": "authorized_user",
            },
            "endpoint_url": "http://127.0.0.1:9",
        },
        "az://secrets/x": {
            "account_name": "someone",
            "connection_string": "DefaultEndpointsProtocol=http;AccountName=a;"
            f"AccountKey={CANARIES['account_key']};BlobEndpoint=http://127.0.0.1:9/a;",
        },
        f"http://{CANARIES['url_user']}:{CANARIES['url_password']}@127.0.0.1:9/x?sig="
        f"{CANARIES['query']}": {"headers": {"Authorization": CANARIES["header"]}},
        f"ftp://{CANARIES['url_user']}:{CANARIES['url_password']}@127.0.0.1:9/x": {
            "password": CANARIES["password"]
        },
        f"nosuch://u:{CANARIES['url_password']}@host/x?token={CANARIES['query']}": {
            "password": CANARIES["password"]
        },
    }.items():
        for engine in ("fsspec", "obstore"):
            attempt(
                lambda at=location, given=given, engine=engine: show(
                    open_store(at, storage_options=given, engine=engine)
                )
            )
        attempt(
            lambda at=location, given=given: Memory(at, storage_options=given, verbose=9).cache(
                count
            )(1)
        )
    inner = open_store(url, storage_options=options)
    broken = FailingStore(inner, lambda operation, name: OSError("disk full"))
    attempt(lambda: Memory(broken, sign_key=sign_key).cache(count)(7))

    # Clusters.
    secret = CANARIES["address"]
    for backend in (
        f"dask://u:{secret}@127.0.0.1:9",
        f"ray://u:{secret}@127.0.0.1:9",
        f"no://u:{secret}@h",
    ):
        attempt(lambda backend=backend: Parallel(backend=backend)([delayed(count)(1)]))
        attempt(lambda backend=backend: show(Parallel(backend=backend)))
        attempt(lambda backend=backend: show_config(backend))
    attempt(lambda: parallel_config(ray_options={"_redis_password": secret}))
    show(DaskBackend(f"tls://u:{secret}@127.0.0.1:9", connect_timeout=0.5))

    # The command.
    from jobspan.cli.start import run

    given = folder / "given"
    given.mkdir()
    (given / "options.json").write_text(json.dumps(options))
    (given / "key").write_bytes(sign_key)
    typed = ["-o", f"key={options['key']}", "-o", f"secret={options['secret']}"]
    typed += ["-o", f"token={options['token']}", "-o", f"endpoint_url={endpoint}"]
    broken_typed = [*typed[:-1], "endpoint_url=http://127.0.0.1:9"]
    file = ["--options-file", str(given / "options.json")]
    name = function._keys.name
    for arguments in (
        ["cache", "ls", url, *typed],
        ["cache", "ls", url, name, *file],
        ["cache", "ls", url, *broken_typed],
        ["cache", "ls", f"s3://{CANARIES['url_user']}:{CANARIES['url_password']}@b/x", *file],
        ["cache", "show", url, key.digest[:12], *file],
        ["cache", "show", url, key.digest[:12], "--json", "--value", *file],
        ["cache", "stats", url, *file],
        ["cache", "verify", url, "--sign-key-file", str(given / "key"), *file],
        ["cache", "verify", url, "--sign-key-file", str(given / "options.json"), *file],
        ["cache", "report", url, "--html", str(folder / "cache.html"), *file],
        ["cache", "export", url, str(folder / "export"), *file],
        ["cache", "ls", url, "-o", f"secret:{CANARIES['secret']}"],
        ["doctor", "--cache", url, *file],
        ["doctor", "--cache", url, *broken_typed, "--json"],
        ["doctor", "--backend", f"dask://u:{secret}@127.0.0.1:9"],
    ):
        print("$", arguments[0], arguments[1])
        attempt(lambda arguments=arguments: run(arguments))


if __name__ == "__main__":
    os.environ.pop("AWS_PROFILE", None)
    work(Path(sys.argv[1]), *sys.argv[2:])
