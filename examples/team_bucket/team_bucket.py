"""A team sharing a bucket: Ada computes and signs, Ben may only read, and both trust the key.

Runs on a real S3 server that is started on this machine. In earnest, Ada's and Ben's rights are
those of deploy/terraform's two policies.
"""

import warnings

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobspan import Memory, Parallel, delayed
from jobspan.testing.servers import Moto


def model(seed, size=1000):
    values = [(seed * number) % 7919 for number in range(1, size)]
    return sum(values) / len(values)


def main(url, options):
    key = Ed25519PrivateKey.generate()  # Ada keeps it; everybody may have the public half
    ada = Memory(url, storage_options=options, sign_key=key, verbose=0).cache(model)
    ben_s = Memory(url, storage_options=options, sign_key=key.public_key(), mode="ro", verbose=0)
    ben = ben_s.cache(model)

    parallel = Parallel(n_jobs=2)
    parallel(delayed(ada)(seed) for seed in range(6))
    print("Ada computed", parallel.stats.calls - parallel.stats.recalled)

    results = parallel(delayed(ben)(seed) for seed in range(8))
    print("Ben found", parallel.stats.recalled, "and computed", 8 - parallel.stats.recalled)
    print("what Ben computed is stored:", ada.check_call_in_cache(7))
    print("why Ben missed:", ben.explain(7))

    mallory = Memory(url, storage_options=options, verbose=0).cache(model)
    mallory(7)  # has write access, but not the key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning names the entry that is not trusted
        print("Ben trusts an entry that nobody signed:", ben.check_call_in_cache(7))
    print("sum:", round(sum(results), 3))


if __name__ == "__main__":
    with Moto() as server:
        main(f"{server.bucket_url('team')}/cache", server.storage_options)
