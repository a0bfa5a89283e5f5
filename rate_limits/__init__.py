"""How often somebody may do something: shared between processes through Redis, by each process alone without it.

:func:`rate_limits.limiter.open_limiter` opens it.
"""
