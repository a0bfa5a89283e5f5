"""What a history writer cannot reach at the moment: counted, told once in the log, and shown beside its readiness."""

from __future__ import annotations

import logging

from location_history.metrics import WriterMetrics
from nearby.errors import StoreUnavailable

_log = logging.getLogger(__name__)


class Outages:
    """The last error of each store that has not answered since."""

    def __init__(self, metrics: WriterMetrics) -> None:
        self._metrics = metrics
        self._away: dict[str, StoreUnavailable] = {}

    def failed(self, error: StoreUnavailable) -> None:
        """Take notice that a store did not answer."""
        self._metrics.failures.labels(error.store).inc()
        if error.store not in self._away:
            _log.warning("%s", error)
        self._away[error.store] = error

    def answered(self, store: str) -> None:
        """Take notice that ``store`` answers."""
        if self._away.pop(store, None) is not None:
            _log.info("%s answers again", store)

    def reason(self) -> str | None:
        """Return what keeps points from being stored, ``None`` if nothing does."""
        return "; ".join(str(error) for error in self._away.values()) or None
