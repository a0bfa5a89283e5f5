"""``nearby up``: every process of nearby on one machine, started, supervised and stopped together.

:mod:`cli.up.plan` decides what runs with which settings, :mod:`cli.up.stack` starts it and waits until it is ready,
:mod:`cli.up.supervisor` keeps it running.
"""
