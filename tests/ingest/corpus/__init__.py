"""Small files of the shapes that other tools write, and what must become of each: the cases of ``test_corpus.py``.

A module of this folder holds the cases of one family in ``CASES``. ``docs/data.md`` has the table of all of them, made by
``python docs/build.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any


@dataclass(frozen=True)
class Case:
    """One file, or folder, and what an ingest makes of it.

    Args:
        name: what it is, for people; stands in the table.
        tool: who writes such files.
        write: writes it into an empty folder; gives the path to ingest.
        kept: frames kept.
        rejected: reason -> number of frames rejected.
        labels: label -> its first values in the first frame kept, flat. A label that is not here is one that no frame has.
        options: keyword arguments of ``ingest``.
        error: how the sentence of the refusal goes (a regular expression), where a refusal is what should come.
        note: what is done, for the table.
    """

    name: str
    tool: str
    write: Callable[[Path], Path]
    kept: int = 1
    rejected: dict[str, int] = field(default_factory=dict)
    labels: dict[str, list[float]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    note: str = ""


def every_case() -> list[Case]:
    """The cases of all families, by tool and name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted((case for module in modules for case in module.CASES), key=lambda case: (case.tool.lower(), case.name))


def table() -> str:
    """The cases as a Markdown table."""
    lines = ["| tool | file | kept | rejected | labels | how |", "|---|---|---|---|---|---|"]
    for case in every_case():
        rejected = ", ".join(f"{n} {reason}" for reason, n in case.rejected.items()) or ("refused" if case.error else "")
        options = " ".join(f"`{word}`" for name, value in case.options.items() for word in _words(name, value))
        how = ", ".join(part for part in (case.note, options) if part)
        lines.append(f"| {case.tool} | {case.name} | {case.kept} | {rejected} | {', '.join(case.labels)} | {how} |")
    return "\n".join(lines)


def _words(name: str, value: Any) -> list[str]:
    """An argument as options of the command line."""
    if name == "checks":
        return [f"--check {check}={action}" for check, action in value.items()]
    return [f"--{name.replace('_', '-')} {value}"]
