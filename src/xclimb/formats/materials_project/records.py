"""Records of the JSON files of the Materials Project, MatPES and pymatgen -> Frames.

Kinds of records that hold a pymatgen structure and labels: those of MPtrj and MP-r2SCAN (``uncorrected_total_energy``,
``force``, ``stress``, ``magmom``), of MatPES (``energy``, ``forces``, ``stress``, ``functional``), pymatgen's
ComputedStructureEntry (``energy``, ``correction``, ``parameters``), a bare Structure, whose labels are properties, and those
that :mod:`xclimb.formats.materials_project.tasks` makes into such: mlearn's (``outputs``), and task documents.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import orjson

from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import DataError
from xclimb.formats.base import EV_UNITS, Part, Reject
from xclimb.formats.materials_project.spans import Chunk, keys_of
from xclimb.formats.materials_project.tasks import RUN_TYPES, is_task, iter_steps, mlearn_record
from xclimb.units import vasp_kbar_to_ev_a3, voigt_to_full

ENERGIES = ("uncorrected", "corrected")
UNITS = EV_UNITS | {"stress": "-kbar"}  # as VASP prints it
_NESTED = {"uncorrected_total_energy", "force", "mp_id"}  # any of these: MPtrj or MP-r2SCAN
# keys of the kinds whose stress is VASP's: MPtrj, MP-r2SCAN, MatPES, mlearn, task documents
_STATED_IN_KBAR = _NESTED | {"matpes_id", "functional", "cohesive_energy_per_atom", "outputs", "theory"}
USED = {"structure", "force", "forces", "stress", "magmom", "magmoms", "bader_magmoms", "mp_id", "material_id", "matpes_id"}
USED |= {"entry_id", "functional", "frame_id", "theory"}


Keys = tuple[str | None, str | None]  # of the object around a record, and its own; None in a list


_NO_TASK: dict[str, Any] = {"task": "without an ionic step or an output"}


def which_energy(energy: str | None) -> str:
    """``"uncorrected"`` unless another of a record's energies is asked for.

    Raises:
        DataError: if records have none of that name.
    """
    if energy not in (None, *ENERGIES):
        raise DataError(f"energy={energy!r} is none that JSON records have: give {' or '.join(ENERGIES)}")
    return energy or ENERGIES[0]


class _UnusableError(Exception):
    """A record that cannot become a frame: (reason, detail)."""


@dataclass(frozen=True)
class _Row:
    """One frame, its arrays, and what stands around them."""

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: list[bool]
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray
    material: str | None
    frame: str
    theory: LevelOfTheory
    place: int
    extras: dict[str, Any] = field(default_factory=dict)


def decode_chunk(chunk: Chunk, kind: str, energy: str, stem: str, file: str, steps: str = "all") -> list[Part]:
    """The records of a chunk as frames.

    Args:
        chunk: where they are.
        kind: ``"entry"``, ``"task"`` or ``"structure"``, from :func:`xclimb.formats.materials_project.spans.record_depth`.
        energy: ``"uncorrected"`` or ``"corrected"``: which of the file's energies are the labels; of tasks ``"e_0"`` or
            ``"free"``.
        stem: frames without a name are called ``"<stem>#<n>"``.
        file: the file, for the rejects.
        steps: ionic steps of task documents: ``"all"`` or ``"last"``.

    Returns:
        one part for each level of theory that records in a row state.
    """
    spans = zip(count(chunk.first), chunk.spans.tolist(), keys_of(chunk), strict=False)
    texts = ((n, chunk.text[begin:end], keys) for n, (begin, end), keys in spans)
    return decode_some(texts, kind, energy, stem, file, steps)


def decode_some(
    texts: Iterable[tuple[int, bytes, Keys]], kind: str, energy: str, stem: str, file: str, steps: str = "all"
) -> list[Part]:
    """As :func:`decode_chunk`, for records that are cut out: (number in the file, text, keys)."""
    records = ((n, _parsed(text), keys) for n, text, keys in texts)  # one at a time in memory
    return decode_records(records, kind, energy, stem, file, steps)


def decode_records(
    records: Iterable[tuple[int, Any, Keys]], kind: str, energy: str, stem: str, file: str, steps: str = "all"
) -> list[Part]:
    """As :func:`decode_chunk`, for records that are parsed: (number in the file, record or the error in it, keys)."""
    rows: list[_Row] = []
    rejects: list[Reject] = []
    for n, record, (material, name) in records:
        named = name if name is not None and kind == "entry" else f"{stem}#{n}"
        for one, own_name in _unfolded(record, kind, energy, named, steps):
            try:
                if isinstance(one, Exception):
                    raise _UnusableError("not JSON", str(one)[:120])
                rows.append(_row(one, kind, energy, material, own_name, n))
            except _UnusableError as error:
                rejects.append(Reject(own_name, n, error.args[0], error.args[1], file))
    parts = [Part(_frames(some), some[0].place, places=np.array([row.place for row in some])) for some in _grouped(rows)]
    return [Part(Frames.empty(), rejects=rejects), *parts] if rejects or not parts else parts


def _parsed(text: bytes) -> Any:
    """A record, or the error in its text. NaN, which is no JSON but occurs in files, is read by Python's own parser."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            return error


def _unfolded(record: Any, kind: str, energy: str, name: str, steps: str) -> list[tuple[Any, str]]:
    """The frames in a record, and their names: many of a task document, else one."""
    if kind != "task":
        return [(record, name)]
    if not is_task(record):
        return [(record if isinstance(record, Exception) else _NO_TASK, name)]
    steps_of_task = [(one, one["frame_id"]) for one in iter_steps(record, name, energy, steps)]
    return steps_of_task or [(_NO_TASK, name)]


# -- one record -----------------------------------------------------------------------------------------------------------


def _row(record: Any, kind: str, energy: str, material: str | None, name: str, place: int) -> _Row:
    if not isinstance(record, dict):
        raise _UnusableError("unusable record", "it is no object")
    kbar = bool(_STATED_IN_KBAR & record.keys())
    if kind == "entry" and isinstance(record.get("outputs"), dict):
        record = mlearn_record(record)
    structure = record if kind == "structure" else record.get("structure")
    if isinstance(structure, str):  # a table that holds JSON
        structure = _parsed(structure.encode())
    if not isinstance(structure, dict):
        raise _UnusableError("no structure", f"keys: {', '.join(map(str, list(record)[:8]))}")
    numbers, positions, cell, pbc = _structure(structure)
    size = len(numbers)
    labels = record if kind != "structure" else _properties(structure)
    value = _energy(labels, record, energy)
    forces = _numbers("forces", labels.get("force", labels.get("forces")), (size, 3))
    stress = _stress(labels.get("stress")) if kbar else np.full((3, 3), np.nan)
    moments = next((labels[key] for key in ("magmom", "magmoms") if labels.get(key) is not None), None)
    if moments is None:
        moments = _site_values(structure, "magmom") or labels.get("bader_magmoms")
    return _Row(
        numbers, positions, cell, pbc, value, forces, stress,
        _numbers("magmoms", moments, (size,)),
        _text(record, ("mp_id", "material_id")) or material,
        _text(record, ("frame_id", "matpes_id", "entry_id")) or name,
        record["theory"] if kind == "task" else _theory(record, energy, kbar),
        place,
        _extras(record, structure, kind),
    )  # fmt: skip


def _structure(structure: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bool]]:
    try:
        sites, lattice = structure["sites"], structure["lattice"]
        species = [site["species"] for site in sites]
        symbols = [s["element"] for s, *others in species if not others and s.get("occu", 1) > 0.999]
        places = [site["abc"] for site in sites]
        cell = _numbers("lattice", lattice["matrix"], (3, 3))
        pbc = [value is True for value in lattice.get("pbc") or (True, True, True)]
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise _UnusableError("unusable structure", f"{type(error).__name__} {error}: sites and lattice expected") from None
    if len(symbols) < len(sites):
        raise _UnusableError("partial occupancies", "order the structure first")
    if not symbols:
        raise _UnusableError("no atoms", "the frame has 0 atoms")
    if len(pbc) != 3:
        raise _UnusableError("unusable structure", "pbc needs three entries")
    known = atomic_numbers()
    try:
        numbers = np.array([known[symbol] for symbol in symbols], dtype=np.int32)
    except (KeyError, TypeError) as error:
        raise _UnusableError("unknown element", f"element {str(error)[:40]}") from None
    return numbers, _numbers("positions", places, (len(symbols), 3)) @ cell, cell, pbc


def _properties(structure: dict) -> dict:
    """Labels of a bare structure: its own properties, and those of its sites."""
    own = structure.get("properties")
    own = own if isinstance(own, dict) else {}
    forces = _site_values(structure, "forces")
    return own | ({"forces": forces} if forces else {})


def _site_values(structure: dict, name: str) -> list | None:
    """A site property, None where no site has it."""
    values = [(site.get("properties") or {}).get(name) for site in structure["sites"]]
    return values if any(value is not None for value in values) else None


def _energy(labels: dict, record: dict, energy: str) -> float:
    if energy != "corrected":
        value = labels.get("uncorrected_total_energy", None if _NESTED & record.keys() else labels.get("energy"))
        return float(_numbers("energy", value, ()))
    if "correction" in record and "energy" in record:
        return float(_numbers("energy", record["energy"], ()) + _numbers("correction", record["correction"], ()))
    if record.get("corrected_total_energy") is None:
        raise _UnusableError("no corrected energy", "the record has no corrected_total_energy: ingest the uncorrected energies")
    return float(_numbers("energy", record["corrected_total_energy"], ()))


def _stress(value: Any) -> np.ndarray:
    """3 x 3, or 6 in the order xx yy zz yz xz xy; kbar in VASP's sign.

    The order is the one that emmet-core states, whose MatPESTrainDoc is the schema of MatPES; its pressure is plus a third of
    the first three, which is VASP's sign.
    """
    voigt = isinstance(value, list) and len(value) == 6
    full = voigt_to_full(_numbers("stress", value, (6,))) if voigt else _numbers("stress", value, (3, 3))
    return vasp_kbar_to_ev_a3(full)


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A label as an array, NaN where there is none; null inside a list is NaN."""
    if value is None:
        return np.full(shape, np.nan)
    try:
        array = np.array(value)
        if array.dtype == object:
            array = np.array(value, dtype=float)
    except (ValueError, TypeError, OverflowError):
        raise _UnusableError("unusable label", f"{name} are no numbers of one shape, {shape} expected") from None
    if array.shape != shape:
        raise _UnusableError("unusable label", f"{name} has shape {array.shape}, expected {shape}")
    if array.dtype.kind not in "fi":
        raise _UnusableError("unusable label", f"{name} are no numbers: {str(value)[:40]}")
    return array.astype(float)


def _text(record: dict, keys: tuple[str, ...]) -> str | None:
    return next((str(record[key]) for key in keys if isinstance(record.get(key), str | int)), None)


def _theory(record: dict, energy: str, kbar: bool) -> LevelOfTheory:
    """The level of theory that a record states; the functional stays unknown where it states none."""
    parameters = record.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    stated = record.get("functional") or RUN_TYPES.get(str(parameters.get("run_type")))
    hubbards = parameters.get("hubbards")
    corrections = None
    if energy == "corrected":
        corrections = "MP2020" if "corrected_total_energy" in record else "pymatgen"
    return LevelOfTheory(
        functional=functional_name(stated) if isinstance(stated, str) else None,
        hubbard_u={str(k): float(v) for k, v in hubbards.items() if v} if isinstance(hubbards, dict) else {},
        code="VASP" if kbar or "run_type" in parameters else None,
        corrections=corrections,
    )


def _extras(record: dict, structure: dict, kind: str) -> dict[str, Any]:
    """Further scalars of a record, and the charge of a charged cell."""
    extras = {}
    if kind != "structure":
        extras = {
            key: value
            for key, value in record.items()
            if key not in USED and not key.startswith("@") and key != "energy" and isinstance(value, str | int | float)
        }
    return extras | (
        {"charge": structure["charge"]} if isinstance(structure.get("charge"), int | float) and structure["charge"] else {}
    )


@cache
def atomic_numbers() -> dict[str, int]:
    """Symbol -> atomic number; D and T are hydrogen."""
    from ase.data import atomic_numbers

    return {symbol: z for symbol, z in atomic_numbers.items() if 1 <= z <= MAX_Z} | {"D": 1, "T": 1}


# -- rows to columns ------------------------------------------------------------------------------------------------------


def _grouped(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows of one level of theory that follow each other."""
    start = 0
    for n in range(1, len(rows) + 1):
        if n == len(rows) or rows[n].theory != rows[start].theory:
            yield rows[start:n]
            start = n


def _frames(rows: list[_Row]) -> Frames:
    frames = Frames(
        numbers=np.concatenate([row.numbers for row in rows]),
        positions=np.concatenate([row.positions for row in rows]),
        cells=np.stack([row.cell for row in rows]),
        pbc=np.array([row.pbc for row in rows]),
        offsets=np.concatenate([[0], np.cumsum([len(row.numbers) for row in rows])]),
        energy=np.array([row.energy for row in rows]),
        forces=np.concatenate([row.forces for row in rows]),
        stress=np.stack([row.stress for row in rows]),
        magmoms=np.concatenate([row.magmoms for row in rows]),
        material_id=np.array([row.material or "" for row in rows], dtype=np.str_),
        frame_id=np.array([row.frame for row in rows], dtype=np.str_),
        theory=rows[0].theory,
        extras=_columns([row.extras for row in rows]),
    )
    nameless = frames.material_id == ""
    if nameless.any():
        frames = frames.replace(material_id=np.where(nameless, frames.formulas(), frames.material_id))
    return frames


def _columns(extras: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Scalars as columns: text where any is text, else numbers; NaN or empty where a row has none."""
    columns = {}
    for name in dict.fromkeys(name for one in extras for name in one):
        values = [one.get(name) for one in extras]
        if any(isinstance(value, str) for value in values):
            columns[name] = np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
        else:
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
    return columns
