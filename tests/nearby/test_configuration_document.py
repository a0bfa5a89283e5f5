"""``docs/configuration.md`` is the table of every variable, and says the same as the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nearby
from nearby import settings
from nearby.settings import Variable, variables

DOCUMENT = Path(nearby.__path__[0]).parent / "docs" / "configuration.md"

# Every class that `load` reads for a process, and how the document calls the process.
PROCESSES: dict[str, type[Any]] = {
    "gateway": settings.GatewaySettings,
    "API": settings.ApiSettings,
    "history writer": settings.HistoryWriterSettings,
    "ring keeper": settings.RingKeeperSettings,
    "prober": settings.ProberSettings,
    "migrations": settings.DatabaseSettings,
    "history migrations": settings.HistoryMigrationSettings,
}


def rendered_table() -> str:
    readers: dict[str, list[str]] = {}
    meant: dict[str, list[Variable]] = {}
    for process, kind in PROCESSES.items():
        for variable in variables(kind):
            readers.setdefault(variable.name, []).append(process)
            if variable not in meant.setdefault(variable.name, []):
                meant[variable.name].append(variable)
    lines = ["| variable | default | allowed | meaning | read by |", "|---|---|---|---|---|"]
    lines += [_row(different, readers[name]) for name, different in meant.items()]
    return "\n".join(lines)


def _row(different: list[Variable], readers: list[str]) -> str:
    """One variable, as the first process describes it, with each default that it has somewhere."""
    first = different[0]
    defaults = ", ".join(_shown(variable.default) for variable in different)
    meaning, allowed = _escaped(first.meaning), _escaped(first.allowed)
    return f"| `{first.name}` | {defaults} | {allowed} | {meaning} | {', '.join(readers)} |"


def _shown(default: str | None) -> str:
    return "must be set" if default is None else f"`{default}`" if default else "empty"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def test_the_table_says_what_the_code_reads() -> None:
    table = rendered_table()
    text = DOCUMENT.read_text(encoding="utf-8")
    assert table in text, f"put this into {DOCUMENT.name} in place of the table:\n{table}"


def test_no_settings_class_is_forgotten() -> None:
    documented = {name for kind in PROCESSES.values() for name in (variable.name for variable in variables(kind))}
    declared = {
        variable.name
        for kind in vars(settings).values()
        if isinstance(kind, type) and kind.__name__.endswith("Settings")
        for variable in variables(kind)
    }
    assert declared == documented
