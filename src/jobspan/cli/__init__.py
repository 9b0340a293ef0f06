"""The command ``jobspan``: caches, this machine, clusters, scripts.

::

    start ── commands ─┬─ reading    cache ls, show, stats, explain, verify, report
                       ├─ changing   cache prune, clear, export
                       ├─ doctor     what this machine, a store and a cluster can do
                       ├─ demo       a small real job with a cache
                       └─ running    jobspan run script.py
"""
