"""How long to wait before a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """A delay that doubles with each death from ``first_s`` to ``most_s``, and starts over after ``good_life_s``."""

    first_s: float = 0.5
    most_s: float = 10.0
    good_life_s: float = 30.0
    _next_s: float = 0.0

    def after(self, lived_s: float) -> float:
        """Return the seconds to wait after a death at the age of ``lived_s``."""
        if lived_s >= self.good_life_s or not self._next_s:
            self._next_s = self.first_s
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, self.most_s)
        return delay_s
