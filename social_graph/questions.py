"""Reads that are asked so often that making and compiling their SQL would cost more than the database's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select

from social_graph import postgresql, sqlite

Among = Callable[[ColumnElement[str], str], ColumnElement[bool]]
"""Makes the condition that a column is one of the values of a parameter, however many, as one statement to plan."""


class Question:
    """A read, made of SQLAlchemy Core once for each of the two databases, and for PostgreSQL compiled once, too."""

    def __init__(self, make: Callable[[Among], Select[*tuple[Any, ...]]]) -> None:
        """Keep what ``make`` returns for the :data:`Among` of each database."""
        self.sqlite = make(sqlite.among_parameter)
        self.sql, self._names, self._literals = postgresql.compiled(make(postgresql.among_parameter))

    def arguments(self, values: Mapping[str, object]) -> Sequence[object]:
        """Return ``values``, by the names of parameters, in the order of :attr:`sql`."""
        return [values[name] if name in values else self._literals[name] for name in self._names]
