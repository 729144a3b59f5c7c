"""Formats of files with labelled structures: the registry, filled by every module of this folder.

A format is one module (or folder) that calls :func:`xclimb.formats.base.register`. Readers, ingest, the command line and the
documents ask the registry; nothing is imported before it is asked.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from xclimb.formats.base import FORMATS, Format

__all__ = ["Format", "energy_names", "format_of", "formats", "table"]

_OTHERS = "ase"  # the format of every kind that no other one claims: ASE's own names


@cache
def _discover() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def formats() -> list[Format]:
    """All formats, in the order in which they are tried on a file."""
    _discover()
    return sorted(FORMATS.values(), key=lambda one: (one.priority, one.name))


def format_of(kind: str) -> Format:
    """The format of a kind of file, see :attr:`xclimb.formats.base.Source.kind`."""
    _discover()
    return next((one for one in FORMATS.values() if kind in one.kinds), FORMATS[_OTHERS])


def energy_names() -> dict[str, list[str]]:
    """Program -> the energies that its files may hold, the default first."""
    names: dict[str, list[str]] = {}
    for one in formats():
        names.setdefault(one.program, []).extend(name for name in one.energies if name not in names.get(one.program, []))
    return {program: energies for program, energies in names.items() if energies}


def table() -> str:
    """Every kind of file and what is taken of it, as a Markdown table."""
    rows = [f"| {what} | {taken} |" for one in formats() for what, taken in one.reads.items()]
    return "\n".join(["| what | what is taken |", "|---|---|", *rows])
