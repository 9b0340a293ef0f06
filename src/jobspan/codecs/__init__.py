"""Values as bytes and back: the codecs, and the entry that one stored result is.

::

    value ── values ── payload, buffers ── compression ── entry ── object
"""
