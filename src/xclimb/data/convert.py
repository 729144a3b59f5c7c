"""Frames to and from ASE atoms and pymatgen structures."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.data.frames import COLUMNS, Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.label_schema import LabelSchema, parse_key
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import DataError, TheoryError
from xclimb.units import full_to_voigt

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

FramesLike = Frames | Sequence[Any]  # a sequence of ASE atoms
_MATERIAL_KEYS = ("material_id", "mp_id")
_ASE = ("numbers", "positions", "initial_magmoms", "initial_charges", "tags", "momenta", "masses")  # no labels
_RESERVED = {*COLUMNS, "cell", "natoms", "n_atoms", "formula", "offsets", "system", "atoms"}
THEORY = "level_of_theory"  # key of the whole level of theory in ``atoms.info``


def from_ase(
    atoms: "Atoms | Iterable[Atoms]",
    theory: LevelOfTheory | None = None,
    keys: LabelKeys | None = None,
    default_ids: Sequence[str] | None = None,
    schema: LabelSchema | None = None,
) -> Frames:
    """ASE atoms -> Frames.

    Labels are taken from the attached calculator's stored results (nothing is computed, constraints are not applied, and
    results of another geometry do not count), ``atoms.info`` and ``atoms.arrays``, under the names that
    :class:`xclimb.data.label_schema.LabelSchema` recognises. Ids come from
    ``atoms.info["frame_id"]`` and ``["material_id"]`` (or ``["mp_id"]``), the level of theory from ``["level_of_theory"]``, or
    ``["functional"]``, unless one is given; further scalars in ``atoms.info`` (or a row's key-value pairs) become extras.

    Args:
        atoms: one or many.
        theory: the level of theory of the labels.
        keys: names of the labels, where they are none of the usual; for an energy under a key like ``"REF_energy"`` the other
            labels are looked for under the same prefix (``REF_forces``, ``REF_stress``, ``REF_magmoms``).
        default_ids: names for frames without an id; ``"frame-<n>"`` if left out.
        schema: recognises the labels, and records which keys it took; in place of ``keys``.

    Raises:
        DataError: on a label of the wrong shape, naming the frame.
        TheoryError: if the atoms state different functionals and no theory is given.
    """
    from ase import Atoms

    many = [atoms] if isinstance(atoms, Atoms) else list(atoms)
    if not many:
        return Frames.empty(theory)
    infos, schema = [_info(one) for one in many], schema or LabelSchema(keys)
    names = default_ids or [f"frame-{s}" for s in range(len(many))]
    labels = [_labels(one, info, index, schema) for index, (one, info) in enumerate(zip(many, infos, strict=True))]
    frames = Frames(
        numbers=np.concatenate([one.numbers for one in many]),
        positions=np.concatenate([one.positions for one in many]),
        cells=np.stack([one.cell.array for one in many]),
        pbc=np.stack([one.pbc for one in many]),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in many])]),
        energy=np.array([label["energy"] for label in labels]),
        forces=np.concatenate([label["forces"] for label in labels]),
        stress=np.stack([label["stress"] for label in labels]),
        magmoms=np.concatenate([label["magmoms"] for label in labels]),
        frame_id=np.array([str(info.get("frame_id", name)) for info, name in zip(infos, names, strict=True)]),
        theory=theory or _stated_theory(infos, schema),
        extras=_extras(infos, schema),
    )
    materials = [next((str(info[key]) for key in _MATERIAL_KEYS if key in info), None) for info in infos]
    if any(materials):
        stated = np.array([name or formula for name, formula in zip(materials, frames.material_id.tolist(), strict=True)])
        frames = frames.replace(material_id=stated)
    return frames


def labelled_frames(data: FramesLike, what: str = "data") -> Frames:
    """Frames, or ASE atoms with labels, as Frames.

    Args:
        data: frames, or a list of atoms.
        what: what they are, for the message.

    Raises:
        DataError: on anything else, or a label that does not fit its atoms.
        TheoryError: if the atoms state different functionals.
    """
    from ase import Atoms

    if isinstance(data, Frames):
        return data
    if all(isinstance(one, Atoms) for one in data):
        return from_ase(data)
    raise DataError(f"{what} must be Frames or a list of ASE atoms: xclimb.read(...) makes Frames of files")


def _info(atoms: "Atoms") -> dict:
    """``atoms.info`` with the key-value pairs of a database row, and what xclimb wrote into it, laid open."""
    pairs, data = atoms.info.get("key_value_pairs"), atoms.info.get("data")
    own = data.get("xclimb") if isinstance(data, dict) else None
    if not isinstance(own, dict):
        return atoms.info | pairs if isinstance(pairs, dict) else atoms.info
    return own  # a row has an id of its own besides


def _stated_theory(infos: list[dict], schema: LabelSchema) -> LevelOfTheory:
    levels = [info.get(THEORY) for info in infos]
    if not any(isinstance(level, dict) for level in levels):
        return LevelOfTheory(functional=_stated_functional(infos) or next(iter(schema.functionals), None))
    theories = [LevelOfTheory.from_dict(level) if isinstance(level, dict) else LevelOfTheory() for level in levels]
    for other in theories:
        if other != theories[0]:
            theories[0].require_same(other, "frames of one file")
    return theories[0]


def _stated_functional(infos: list[dict]) -> str | None:
    stated = {functional_name(str(info["functional"])) if info.get("functional") else None for info in infos}
    if len(stated) > 1:
        names = ", ".join(sorted(str(name) for name in stated))
        raise TheoryError(f"frames state different functionals ({names}): give each its own Frames")
    return stated.pop()


def _results(atoms: "Atoms") -> dict:
    """Stored results of the attached calculator, if they are of this very geometry."""
    from ase.calculators.calculator import compare_atoms

    results = getattr(atoms.calc, "results", None)
    if not results:
        return {}
    computed = getattr(atoms.calc, "atoms", None)
    excluded = {"initial_charges", "initial_magmoms"}
    stale = computed is not None and compare_atoms(computed, atoms, tol=1e-10, excluded_properties=excluded)
    return {} if stale else results


def _labels(atoms: "Atoms", info: dict, index: int, schema: LabelSchema) -> dict[str, np.ndarray]:
    """The labels of one ASE atoms object, NaN where missing."""
    values: dict[str, Any] = {**atoms.arrays, **info, **{k: v for k, v in _results(atoms).items() if v is not None}}
    for own in _ASE:
        values.pop(own, None)
    values = {name: value for name, value in values.items() if value is not None}
    try:
        return schema.labels(values, atoms.arrays, len(atoms), abs(atoms.cell.volume))
    except DataError as error:
        raise DataError(f"frame {index} ({atoms.get_chemical_formula()}): {error}") from None


def _extras(infos: list[dict], schema: LabelSchema) -> dict[str, np.ndarray]:
    """Scalars of ``atoms.info`` as columns: text where any is text, NaN or empty where a frame has none."""
    taken = {"frame_id", *_MATERIAL_KEYS, "functional", THEORY, *schema.use.known}
    names = dict.fromkeys(
        str(key)
        for info in infos
        for key, value in info.items()
        if key not in taken and not _is_label(str(key)) and isinstance(value, str | int | float | bool | np.number | np.bool_)
    )
    return {_free(name): _extra([info.get(name) for info in infos]) for name in names}


def _is_label(key: str) -> bool:
    """Whether a key is one under which labels are looked for: as a further column it would be read as one later."""
    parsed = parse_key(key)
    return parsed is not None and parsed.known


def _free(name: str) -> str:
    """The name of a further column, another one where a column of structures has it (``numbers``, ``n_atoms``)."""
    return f"info_{name}" if name in _RESERVED else name


def _extra(values: list) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    scalar = [value if isinstance(value, int | float | bool | np.number | np.bool_) else np.nan for value in values]
    return np.array(scalar)


def to_ase(frames: Frames) -> "list[Atoms]":
    """Frames -> ASE atoms: finite labels in a SinglePointCalculator; ids, level of theory and extras in ``atoms.info``."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    many, stated = [], frames.theory.to_dict()
    stated = {} if list(stated) == ["functional"] else stated
    for s in range(len(frames)):
        rows = slice(frames.offsets[s], frames.offsets[s + 1])
        info: dict[str, Any] = {"frame_id": str(frames.frame_id[s]), "material_id": str(frames.material_id[s])}
        if frames.theory.functional:
            info["functional"] = frames.theory.functional
        if stated:
            info[THEORY] = dict(stated)
        info |= {name: value[s].item() if value.ndim == 1 else value[s].copy() for name, value in frames.extras.items()}
        atoms = Atoms(frames.numbers[rows], frames.positions[rows], cell=frames.cells[s], pbc=frames.pbc[s], info=info)
        labels: dict[str, Any] = {
            "energy": float(frames.energy[s]),
            "forces": frames.forces[rows].copy(),
            "stress": full_to_voigt(frames.stress[s]),
            "magmoms": frames.magmoms[rows].copy(),
        }
        labels = {  # moments may be known for some atoms only
            name: value
            for name, value in labels.items()
            if (np.isfinite(value).any() if name == "magmoms" else np.isfinite(value).all())
        }
        if labels:
            atoms.calc = SinglePointCalculator(atoms, **labels)
        many.append(atoms)
    return many


def from_pymatgen(structures: "Structure | Iterable[Structure]", theory: LevelOfTheory | None = None) -> Frames:
    """pymatgen structures or molecules -> Frames; a ``magmom`` site property becomes the magmoms label."""
    from pymatgen.core import IMolecule, IStructure

    many = [structures] if isinstance(structures, IStructure | IMolecule) else list(structures)
    if not many:
        return Frames.empty(theory)
    for s, one in enumerate(many):
        if not one.is_ordered:
            raise DataError(
                f"structure {s} ({one.formula}) has partial occupancies: order it first (pymatgen's transformations do)"
            )
    magmoms = [_site_magmoms(one) for one in many]
    return Frames(
        numbers=np.concatenate([one.atomic_numbers for one in many]),
        positions=np.concatenate([one.cart_coords for one in many]),
        cells=np.stack([one.lattice.matrix if isinstance(one, IStructure) else np.zeros((3, 3)) for one in many]),
        pbc=np.array([one.lattice.pbc if isinstance(one, IStructure) else (False,) * 3 for one in many]),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in many])]),
        magmoms=np.concatenate(magmoms),
        theory=theory or LevelOfTheory(),
    )


def _site_magmoms(structure) -> np.ndarray:
    values = structure.site_properties.get("magmom") or [None] * len(structure)
    return np.array([np.nan if value is None else float(value) for value in values])


def to_pymatgen(frames: Frames) -> "list[Structure]":
    """Frames -> pymatgen structures."""
    from pymatgen.core import Lattice, Structure

    many = []
    for s in range(len(frames)):
        rows = slice(frames.offsets[s], frames.offsets[s + 1])
        if not frames.pbc[s].all():
            raise DataError(f"frame {frames.frame_id[s]} is not periodic in all directions: use to_ase()")
        magmoms = frames.magmoms[rows]
        properties = {"magmom": magmoms.tolist()} if np.isfinite(magmoms).all() else {}
        lattice = Lattice(frames.cells[s])
        many.append(
            Structure(
                lattice, frames.numbers[rows], frames.positions[rows], coords_are_cartesian=True, site_properties=properties
            )
        )
    return many
