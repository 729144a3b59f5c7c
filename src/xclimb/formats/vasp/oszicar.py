"""Ionic steps as an OSZICAR sums them up: energies, and the moment of the whole cell, also of a run that broke off."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xclimb.formats.compressed import BROKEN, open_compressed

_STEP = re.compile(rb"^\s*\d+ .*?F=\s*(\S+)\s+E0=\s*(\S+).*?(?:mag=\s*(.*))?$", re.MULTILINE)
_COMPRESSED = (".gz", ".bz2", ".xz")
_SAME = 2e-7  # relative: energies have eight digits


@dataclass(frozen=True)
class OszicarStep:
    """One ionic step.

    Args:
        free: free energy, eV.
        zero: energy at zero smearing, eV.
        moment: of the whole cell, µB; NaN where none is written, or it has directions.
    """

    free: float
    zero: float
    moment: float


def read_oszicar(vasprun: Path) -> list[OszicarStep]:
    """The steps of the OSZICAR beside a ``vasprun.xml``: ``vasprun.relax1.xml.gz`` goes with ``OSZICAR.relax1.gz``."""
    path = beside(vasprun, "OSZICAR")
    text = b""
    if path is not None:
        with suppress(*BROKEN), open_compressed(path) as file:
            text = file.read()
    steps = []
    for free, zero, moment in _STEP.findall(text):
        words = moment.split()
        with suppress(ValueError):
            steps.append(OszicarStep(float(free), float(zero), float(words[0]) if len(words) == 1 else np.nan))
    return steps


def of_this_run(steps: list[OszicarStep], free: list[float]) -> list[OszicarStep]:
    """The steps if they begin with these free energies; nothing if the file tells of another run, or of several."""
    same = len(steps) >= len(free) and np.allclose([step.free for step in steps[: len(free)]], free, rtol=_SAME, atol=1e-7)
    return steps if same else []


def beside(path: Path, name: str, own: str = "vasprun") -> Path | None:
    """Another file of the same run, compressed or not, by the name that a file has (``own``) and is to have."""
    middle = path.name.removeprefix(own).split(".xml")[0]
    for end in _COMPRESSED:
        middle = middle.removesuffix(end)
    names = [f"{name}{middle}{end}" for end in ("", *_COMPRESSED)]
    return next((path.with_name(one) for one in names if path.with_name(one).is_file()), None)
