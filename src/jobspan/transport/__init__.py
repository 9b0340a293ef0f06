"""How batches and their results cross a process boundary.

::

    batch ── encoding ─┬─ payload ───────────────────────────────┬─ decoding ── calls
                       ├─ buffers ── Sharing.share ── references ─┤  (Sharing.fetch)
                       └─ functions, context ── once a worker ────┘

    calls ── worker.run ── values, failures ── encoding.encode_ran ── ... the same way back

A backend supplies a :class:`~jobspan.transport.protocol.Sharing`: how a large buffer is put where
workers find it, and how it is fetched. All else is the same for every backend.
"""
