"""Frames of a VASP run: ``vasprun.xml``, with the magnetic moments of the OUTCAR beside it, and the OSZICAR.

The XML is read as a stream, so that of an unfinished or broken run every whole ionic step is kept: also the last, if the file
breaks off behind its labels, or before the energy alone and the OSZICAR has that.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import DataError
from xclimb.formats.base import Part, ReadOptions, Reject, Source
from xclimb.formats.compressed import BROKEN, open_compressed
from xclimb.formats.vasp.oszicar import OszicarStep, beside, of_this_run, read_oszicar
from xclimb.formats.vasp.tags import vasprun_theory
from xclimb.formats.vasp.xml import iter_xml
from xclimb.units import vasp_kbar_to_ev_a3

ENERGIES = ("e_0", "free")  # extrapolated to zero smearing, and the free energy
_MAGNETIZATION = re.compile(rb"magnetization \(x\)(.*?)\n\s*tot ", re.DOTALL)
_BLOCK, _MARK = 8_000_000, 40  # bytes of an OUTCAR read in one go; of the words that begin a table
_DIRECTIONS = re.compile(rb"magnetization \([yz]\)")


class _StepError(Exception):
    """An ionic step without what a frame needs."""


def iter_vasprun(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Ionic steps of a run as frames; extras: ``"converged"`` of the electrons, ``"total_magmom"`` (µB) from the OSZICAR.

    Args:
        source: the ``vasprun.xml``.
        options: the energy, ``"e_0"`` (extrapolated to zero smearing, the usual) or ``"free"``, which the level of theory
            records; and all ionic steps or the last.

    Raises:
        DataError: if the file has no whole ionic step, or breaks off (the whole steps have been given by then).
    """
    flavour = energy_flavour(options.energy)
    theory = vasprun_theory(source.path, flavour)
    done: list[dict | _StepError] = []
    broken = None
    oszicar = read_oszicar(source.path)
    try:
        for step in _iter_steps(source.path, flavour, oszicar, done):
            done.append(step)  # noqa: PERF402 (what came before an error is kept)
    except (ET.ParseError, *BROKEN, ValueError, KeyError, IndexError) as error:
        broken = str(error)[:100]
    if not done:
        raise DataError(f"{source.path} has no whole ionic step ({broken or 'none was calculated'}): run it again")
    moments, summed = _magmoms(source.path, done), of_this_run(oszicar, _free_energies(done))
    first = len(done) - 1 if options.steps == "last" else 0
    frames, rejects, places = [], [], []
    for n in range(first, len(done)):
        step = done[n]
        if isinstance(step, _StepError):
            rejects.append(Reject(f"{source.stem}#{n}", n, "incomplete ionic step", str(step), str(source.path)))
            continue
        total = summed[n].moment if n < len(summed) else np.nan
        frames.append(_frame(step, moments[n], total, f"{source.stem}#{n}"))
        places.append(n)
    joined = Frames.concatenate(frames).with_theory(theory) if frames else Frames.empty(theory)
    yield Part(joined, first, rejects, np.array(places, dtype=np.int64))
    if broken is not None:
        raise DataError(f"{source.path} breaks off after ionic step {len(done)} ({broken}): the run is unfinished or damaged")


def energy_flavour(energy: str | None) -> str:
    """``"e_0"`` unless another of VASP's energies is asked for.

    Raises:
        DataError: if VASP has none of that name.
    """
    if energy not in (None, *ENERGIES):
        raise DataError(f"energy={energy!r} is none that VASP runs have: give {' or '.join(ENERGIES)}")
    return energy or ENERGIES[0]


def _iter_steps(path: Path, flavour: str, oszicar: list[OszicarStep], done: list) -> "Iterator[dict | _StepError]":
    """Each ionic step as it is read; nothing of the file is kept but what the next steps need.

    Where the file breaks off in a step behind its energy, or behind its stress and the OSZICAR has its energy, that step is
    given before the error; ``done`` are the steps given so far.
    """
    numbers: list[int] = []
    most, current, ended = 0, None, set[str]()
    try:
        with open_compressed(path) as file:
            for event, element in iter_xml(file, path):
                if element.tag == "calculation":
                    current, ended = (element if event == "start" else None), set()
                if event == "start":
                    continue
                if element.tag == "atominfo":
                    numbers = [_atomic_number(rc[0].text) for rc in element.findall("array[@name='atoms']/set/rc")]
                elif element.tag in ("incar", "parameters"):
                    most = _most_iterations(element) or most
                elif element.tag in ("structure", "varray"):
                    ended.add(element.get("name") or element.tag)
                elif element.tag == "energy" and "structure" in ended:  # those of electronic steps come before
                    ended.add("energy")
                elif element.tag == "calculation":
                    yield _tried(element, numbers, most, flavour)
    except (ET.ParseError, *BROKEN):
        summaries = of_this_run(oszicar, _free_energies(done))[len(done) :]
        if current is not None and "energy" in ended:
            yield _tried(current, numbers, most, flavour)
        elif current is not None and "stress" in ended and summaries:
            yield _tried(current, numbers, most, flavour, summaries[0])
        raise


def _most_iterations(tags: ET.Element) -> int:
    """NELM of the INCAR or the parameter list; the one of "response functions" (1 by default) limits other iterations."""
    limit = tags.find(".//separator[@name='electronic convergence']/i[@name='NELM']")
    if limit is None:
        limit = next(
            (i for part in (tags, *tags.findall("separator[@name='electronic']")) for i in part.findall("i[@name='NELM']")),
            None,
        )
    return 0 if limit is None else int(limit.text or 0)


def _tried(
    element: ET.Element, numbers: list[int], most: int, flavour: str, summary: OszicarStep | None = None
) -> "dict | _StepError":
    try:
        return _step(element, numbers, most, flavour, summary)
    except _StepError as error:
        return error


def _step(element: ET.Element, numbers: list[int], most: int, flavour: str, summary: OszicarStep | None) -> dict:
    cell, places = (
        _varray(element, "structure/crystal/varray[@name='basis']"),
        _varray(element, "structure/varray[@name='positions']"),
    )
    if cell is None or places is None or cell.shape != (3, 3) or places.shape != (len(numbers), 3):
        raise _StepError(f"{len(numbers)} atoms, but no structure of that many in the step")
    forces, stress = _varray(element, "varray[@name='forces']"), _varray(element, "varray[@name='stress']")
    if forces is not None and forces.shape != places.shape:
        raise _StepError(f"forces have shape {forces.shape}, expected {places.shape}")
    if stress is not None and stress.shape != (3, 3):
        raise _StepError(f"stress has shape {stress.shape}, expected (3, 3)")
    electronic = element.findall("scstep")
    if summary is None:
        energy, free = _energy(element, electronic, flavour), _scalar(element, "energy/i[@name='e_fr_energy']")
    else:
        energy, free = summary.free if flavour == "free" else summary.zero, summary.free
    return {
        "numbers": numbers, "cell": cell, "positions": places @ cell, "energy": energy, "free": free,
        "forces": np.full(places.shape, np.nan) if forces is None else forces,
        "stress": np.full((3, 3), np.nan) if stress is None else vasp_kbar_to_ev_a3(stress),
        "electronic_steps": len(electronic), "converged": not (most and len(electronic) >= most),
    }  # fmt: skip


def _free_energies(steps: list) -> list[float]:
    return [step["free"] if isinstance(step, dict) else np.nan for step in steps]


def _energy(element: ET.Element, electronic: list[ET.Element], flavour: str) -> float:
    free = _scalar(element, "energy/i[@name='e_fr_energy']")
    if free is None:
        raise _StepError("no energy")
    own = _scalar(element, "energy/i[@name='e_0_energy']")
    last = electronic[-1] if electronic else None
    if last is None:
        return energy_of_step(free, own, own, free, flavour) if own is not None else free
    zero, smeared = _scalar(last, "energy/i[@name='e_0_energy']"), _scalar(last, "energy/i[@name='e_fr_energy']")
    if flavour == "e_0" and own is None and (zero is None or smeared is None):
        raise _StepError("no energy at zero smearing")
    return energy_of_step(free, own, zero, smeared, flavour)


def energy_of_step(free: float, own: float | None, zero: float | None, smeared: float | None, flavour: str) -> float:
    """Energy of an ionic step, eV. Its own e_0_energy is wrong in many versions of VASP: dispersion is only in the free energy.

    What smearing takes away is the same before and after dispersion is added, so e_0 is the free energy of the step plus the
    difference of the two in the last electronic step.

    Args:
        free: free energy of the step.
        own: its e_0_energy.
        zero: e_0_energy of its last electronic step.
        smeared: free energy of that.
        flavour: ``"e_0"`` or ``"free"``.
    """
    if flavour == "free":
        return free
    if zero is None or smeared is None:
        return free if own is None else own
    return float(np.round(free + zero - smeared, 8))


def _scalar(element: ET.Element, path: str) -> float | None:
    node = element.find(path)
    return None if node is None or not node.text else _number(node.text)


def _varray(element: ET.Element, path: str) -> np.ndarray | None:
    node = element.find(path)
    if node is None:
        return None
    rows = [[_number(word) for word in (v.text or "").split()] for v in node.findall("v")]
    if len({len(row) for row in rows}) != 1:
        raise _StepError("rows of a table have different lengths")
    return np.array(rows)


def _number(word: str) -> float:
    """A number; VASP writes stars where one does not fit its column: infinity, which the audit rejects."""
    try:
        return float(word)
    except ValueError:
        return float("inf")


def _atomic_number(symbol: str | None) -> int:
    from ase.data import atomic_numbers

    return atomic_numbers.get((symbol or "").strip(), 0)


def _frame(step: dict, magmoms: np.ndarray, total: float, name: str) -> Frames:
    size = len(step["numbers"])
    extras = {"converged": np.array([step["converged"]])} | ({"total_magmom": np.array([total])} if np.isfinite(total) else {})
    return Frames(
        numbers=np.array(step["numbers"]), positions=step["positions"], cells=step["cell"][None], pbc=np.ones((1, 3), bool),
        offsets=np.array([0, size]), energy=np.array([step["energy"]]), forces=step["forces"], stress=step["stress"][None],
        magmoms=magmoms, frame_id=np.array([name]), extras=extras,
    )  # fmt: skip


# -- magnetic moments -----------------------------------------------------------------------------------------------------


def _magmoms(vasprun: Path, steps: list) -> list[np.ndarray]:
    """Moments of each step from the OUTCAR beside the file; NaN where they are not written, or cannot be assigned.

    VASP writes them once an ionic step, or at the end only: then they belong to the last step.
    """
    missing = [np.full(len(step["numbers"]) if isinstance(step, dict) else 0, np.nan) for step in steps]
    outcar = beside(vasprun, "OUTCAR")
    if outcar is None:
        return missing
    with suppress(*BROKEN):
        with open_compressed(outcar) as file:
            tables = _tables(file)
        if tables is None:  # not collinear: three components an atom
            return missing
        if len(tables) > len(steps):  # the last is written twice
            tables = tables[: len(steps) - 1] + tables[-1:]
        elif len(tables) < len(steps):
            if len(tables) != 1:
                return missing
            tables = [np.zeros(0)] * (len(steps) - 1) + tables
        return [table if len(table) == len(empty) else empty for table, empty in zip(tables, missing, strict=True)]
    return missing


def _tables(file: io.BufferedIOBase) -> list[np.ndarray] | None:
    """Every table of moments in an OUTCAR; None if their directions are written too."""
    tables, text = [], b""
    while more := file.read(_BLOCK):
        text += more
        if _DIRECTIONS.search(text):
            return None
        end = 0
        for match in _MAGNETIZATION.finditer(text):
            tables.append(_table(match[1]))
            end = match.end()
        begun = text.rfind(b"magnetization (", end)
        text = text[begun if 0 <= len(text) - begun < _BLOCK and begun >= 0 else -_MARK :]
    return tables


def _table(text: bytes) -> np.ndarray:
    """The column ``tot`` of a table of moments."""
    rows = [line.split() for line in text.splitlines()]
    return np.array([float(row[-1]) for row in rows if len(row) > 2 and row[0].isdigit()])
