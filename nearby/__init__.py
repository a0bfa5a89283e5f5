"""The shared vocabulary of nearby: pure types and functions, with no I/O and no clock.

Start with :mod:`nearby.ports`; it explains the whole system.
"""

__version__ = "0.1.0"
