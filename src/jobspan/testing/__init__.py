"""What tests of jobspan, and of what others build upon its seams, are made of.

:mod:`jobspan.testing.stores` has the conformance suite for stores, :mod:`jobspan.testing.servers`
real servers on this machine, :mod:`jobspan.testing.proxy` a proxy that counts and disturbs
requests, and :mod:`jobspan.testing.faults` stores that are slow or fail.
"""
