"""Frames of an OUTCAR without a ``vasprun.xml`` beside it: ASE reads the steps, the head states the level of theory."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from xclimb.data.label_keys import LabelKeys
from xclimb.formats.ase import read_ase
from xclimb.formats.base import Part, ReadOptions, Source
from xclimb.formats.compressed import BROKEN, open_compressed
from xclimb.formats.vasp.tags import outcar_theory
from xclimb.formats.vasp.vasprun import energy_flavour

_ITERATION = re.compile(rb"Iteration\s+(\d+)\(\s*(\d+)\)")
_NELM = re.compile(rb"^\s*NELM\s*=\s*(\d+)")
_LONGEST = 10_000  # bytes of a line that are looked at


def iter_outcar(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Ionic steps as frames, with ``"converged"`` of the electrons as an extra; arguments as for
    :func:`xclimb.formats.vasp.vasprun.iter_vasprun`.

    Raises:
        DataError: if the file has no whole ionic step, or breaks off (the whole steps have been given by then).
    """
    if options.labels == "ignored":
        yield from read_ase(source, options)
        return
    flavour = energy_flavour(options.energy)
    theory, converged = outcar_theory(source.path, flavour), _converged(source.path)
    last: Part | None = None
    keys = LabelKeys(energy="free_energy" if flavour == "free" else None)
    for part in read_ase(source, ReadOptions(keys=keys)):
        stated = np.array([converged[n] if n < len(converged) else True for n in part.places.tolist()], dtype=bool)
        frames = part.frames.replace(extras={**part.frames.extras, "converged": stated}).with_theory(theory)
        part = replace(part, frames=frames)
        if options.steps == "all":
            yield part
        elif len(frames):
            last = replace(part, frames=frames[-1:], places=part.places[-1:])
    if last is not None:
        yield last


def _converged(path: Path) -> list[bool]:
    """Whether the electronic steps of each ionic step ended before NELM."""
    counts: dict[int, int] = {}
    most = 0
    with suppress(*BROKEN), open_compressed(path) as file:
        while line := file.readline(_LONGEST):
            if b"Iteration" in line and (match := _ITERATION.search(line)):
                counts[int(match[1])] = int(match[2])
            elif not most and b"NELM" in line and (match := _NELM.match(line)):
                most = int(match[1])
    return [not (most and counts[step] >= most) for step in sorted(counts)]
