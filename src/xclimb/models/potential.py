"""A potential: network, elemental references and level of theory together."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import ConfigError, DataError, XclimbWarning
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.graph.neighbours import Search, find_bonds
from xclimb.models.base import Architecture, Network, Output, architecture_of, backend_of
from xclimb.models.multifidelity import Level, MultiFidelity
from xclimb.references import AtomRef
from xclimb.units import ev_a3_to_gpa

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Warn = Callable[[str], None]  # takes a sentence that the user should read
BATCH_ATOMS = {"cpu": 256, "cuda": 4096, "mps": 1024}  # atoms a batch; small batches stay in a CPU's cache


@dataclass(frozen=True)
class Prediction:
    """Prediction for one structure.

    Args:
        energy: total energy, eV.
        forces: eV/Å ``[N, 3]``.
        stress: eV/Å^3, ASE sign ``[3, 3]``; zero for a structure without a cell.
        magmoms: size of the magnetic moments, µB ``[N]``.
        site_energies: eV, references included; they sum to the energy ``[N]``.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray
    site_energies: np.ndarray

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / len(self.site_energies)

    def __repr__(self) -> str:
        largest = np.linalg.norm(self.forces, axis=1).max(initial=0.0)
        pressure = -ev_a3_to_gpa(np.trace(self.stress)) / 3
        return (
            f"Prediction({self.energy:.6g} eV, {self.energy_per_atom:.6g} eV/atom; {len(self.site_energies)} atoms, "
            f"|forces| up to {largest:.4g} eV/Å, pressure {pressure:.4g} GPa, |magmoms| {np.abs(self.magmoms).sum():.3g} µB)"
        )


class Potential:
    """Energy, forces, stress, magnetic moments and site energies of structures, at a stated level of theory.

    Args:
        model: the network; its parameters are frozen here, training works on a copy.
        references: elemental reference energies, added to what the network gives.
        theory: the level of theory of the predictions.
        name: for reports and files.
        others: references and levels of theory of the other functionals that the network has weights for, see :meth:`at`.

    Raises:
        ValueError: if the network has weights for more or fewer functionals.
    """

    def __init__(
        self,
        model: Network,
        references: AtomRef,
        theory: LevelOfTheory,
        name: str = "potential",
        others: Sequence[Level] = (),
    ):
        if model.n_levels != 1 + len(others):
            raise ValueError(f"{1 + len(others)} levels of theory for a network with weights for {model.n_levels}")
        self.model, self.others = model.eval().requires_grad_(False), tuple(others)
        self.references = references
        self.theory = theory
        self.name = name

    def __repr__(self) -> str:
        return f"Potential({self.name!r}, {self.theory}, {self.dtype}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return next(self.model.parameters()).dtype

    @property
    def architecture(self) -> Architecture:
        """Architecture of the network."""
        return architecture_of(self.model)

    @property
    def graph(self) -> GraphSpec:
        """Graph that the network needs."""
        return self.architecture.graph(self.model.config)

    @property
    def functionals(self) -> tuple[str, ...]:
        """Functionals that :meth:`at` takes, the one of the predictions first; none if that is not known."""
        names = (self.theory.functional, *(level.theory.functional for level in self.others))
        return tuple(name for name in names if name is not None)

    def knows(self, frames: Frames) -> np.ndarray:
        """Whether each frame has only elements that the network has parameters for, bool ``[S]``."""
        return np.bincount(frames.system, self.architecture.unknown(frames.numbers), len(frames)) == 0

    # -- predictions ------------------------------------------------------------------------------

    def predict(
        self, x: Any, batch_atoms: int | None = None, search: Search = find_bonds, warn: Warn | None = None
    ) -> "Prediction | list[Prediction]":
        """Predict one structure, or many.

        Args:
            x: ASE atoms, a pymatgen structure, a Frames, or a list of any of these.
            batch_atoms: about how many atoms are computed at a time; None chooses for the device.
            search: what finds the bonds; a :class:`xclimb.graph.neighbours.VerletList` for one structure that moves.
            warn: called with a sentence about atoms that are closer than half the sum of their covalent radii, or about
                references that no data determined; None issues an :class:`~xclimb.errors.XclimbWarning`.

        Returns:
            One prediction for one structure; a list, one for one, for a list or a Frames.

        Raises:
            DataError: on a structure that cannot be computed (unknown element, overlapping atoms, NaN), naming it.
            ReferencesError: on an element without a reference energy, naming it.
        """
        frames, single = as_frames(x)
        site_energies, labelled = self._compute(frames, batch_atoms, search, warn or _warn)
        cut = frames.offsets
        many = [
            Prediction(
                energy=float(labelled.energy[s]),
                forces=labelled.forces[cut[s] : cut[s + 1]],
                stress=labelled.stress[s],
                magmoms=labelled.magmoms[cut[s] : cut[s + 1]],
                site_energies=site_energies[cut[s] : cut[s + 1]],
            )
            for s in range(len(frames))
        ]
        return many[0] if single else many

    def label(self, frames: Frames, batch_atoms: int | None = None) -> Frames:
        """The same structures with this potential's predictions as labels, at its level of theory."""
        return self._compute(frames, batch_atoms, find_bonds, _warn)[1]

    def interaction_energy(self, frames: Frames, batch_atoms: int | None = None) -> np.ndarray:
        """The network's part of the energy, without references, eV ``[S]`` float64."""
        self._check_elements(frames)
        parts = [out.site_energies for out in self._batches(frames, batch_atoms, derivatives=False)]
        sites = torch.cat(parts).double().cpu().numpy() if parts else np.zeros(0)
        return np.bincount(frames.system, weights=sites, minlength=len(frames))

    def _compute(self, frames: Frames, batch_atoms: int | None, search: Search, warn: Warn) -> tuple[np.ndarray, Frames]:
        """Site energies ``[A]`` and the labelled frames; sums over atoms in float64."""
        self._check_elements(frames)
        references = self.references.energy(frames)  # raises for an element that has none
        self._warn_uncovered(frames, warn)
        outputs = list(self._batches(frames, batch_atoms, derivatives=True, search=search, warn=warn))
        columns = {
            name: torch.cat([getattr(out, name) for out in outputs]).double().cpu().numpy()
            for name in ("site_energies", "forces", "stress", "magmoms")
            if outputs
        }
        if not columns:
            return np.zeros(0), Frames.empty(self.theory)
        interaction = columns.pop("site_energies")
        energy = np.bincount(frames.system, weights=interaction, minlength=len(frames)) + references
        site_energies = interaction + self.references.values[frames.numbers]
        return site_energies, frames.replace(energy=energy, theory=self.theory, **columns)

    def _batches(
        self,
        frames: Frames,
        batch_atoms: int | None,
        derivatives: bool,
        search: Search = find_bonds,
        warn: Warn | None = None,
    ) -> Iterator[Output]:
        predict, spec = backend_of(self.model).predict, self.graph
        for part in atom_batches(frames, batch_atoms or BATCH_ATOMS.get(self.device.type, 1024)):
            batch = build_batch(part, spec, self.dtype, self.device, search)
            if batch.close and warn is not None:
                warn(batch.close)
            with torch.no_grad():
                output = predict(self.model, batch, derivatives)
            yield output

    def _check_elements(self, frames: Frames) -> None:
        bad = self.architecture.unknown(frames.numbers)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            known = f"{self.architecture.element_range}, the elements {self.name} knows"
            detail = f"atomic number {frames.numbers[first]} is outside {known}"
            raise DataError(f"frame {frames.frame_id[frames.system[first]]}: {detail}; remove the frame")

    def _warn_uncovered(self, frames: Frames, warn: Warn) -> None:
        present = {chemical_symbols[z] for z in frames.elements}
        named = [symbol for symbol in self.references.uncovered if symbol in present]
        if named:
            warn(
                f"the reference energies of {self.name} were not determined by data for {', '.join(named)}: "
                "total energies of structures with these elements are not meaningful, forces are"
            )

    # -- new potentials from this one ---------------------------------------------------------------

    def at(self, functional: str) -> "Potential":
        """The potential at one of its functionals: an ordinary network with the references and level of theory of that one.

        Raises:
            ConfigError: on a functional that it has not, with those that it has.
        """
        levels = (Level(self.references, self.theory), *self.others)
        wanted = {level.theory.functional: k for k, level in enumerate(levels)}.get(functional_name(functional))
        if wanted is None:
            has = ", ".join(self.functionals) or "an unknown functional"
            raise ConfigError(f"{self.name} has no functional {functional!r}: it predicts {has}")
        if not isinstance(self.model, MultiFidelity):
            return self
        level = levels[wanted]
        return Potential(self.model.fold(wanted), level.references, level.theory, f"{self.name}, at {level.theory.functional}")

    def replace(self, **parts: Any) -> "Potential":
        """A potential with some of ``model``, ``references``, ``theory``, ``name``, ``others`` exchanged; nothing is copied."""
        own = {name: getattr(self, name) for name in ("model", "references", "theory", "name", "others")}
        return Potential(**own | parts)

    def with_references(self, references: AtomRef, theory: LevelOfTheory | None = None) -> "Potential":
        """A new potential with other elemental references; this one is untouched.

        Elements that the new references do not cover keep the present value and are named in ``.references.uncovered``.

        Args:
            references: the new table.
            theory: level of theory of the new potential; the one of the references by default.
        """
        merged = references.merged_over(self.references)
        return self.replace(model=copy.deepcopy(self.model), references=merged, theory=theory or references.theory)

    def copy(self) -> "Potential":
        """An independent copy, weights included."""
        return self.replace(model=copy.deepcopy(self.model))

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> "Potential":
        """A copy on another device or in another precision.

        Raises:
            ConfigError: on a dtype other than float32 or float64, or a device that is not there.
        """
        moved = self.copy()
        moved.model.to(device=device_of(device or self.device), dtype=dtype_of(dtype or self.dtype))
        return moved

    def describe(self) -> dict:
        """Name, level of theory, size, precision and backend (see :mod:`xclimb.backends.select`), for reports."""
        return {
            "name": self.name,
            "theory": self.theory.to_dict(),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "architecture": self.architecture.kind,
            "cutoff": self.graph.cutoff,
            "bond_cutoff": self.graph.bond_cutoff,
            "dtype": str(self.dtype).removeprefix("torch."),
            "backend": backend_of(self.model).name,
            "uncovered": list(self.references.uncovered),
            "functionals": list(self.functionals),
        }

    # -- files ----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write ``potential.json`` and ``weights.safetensors`` into a folder, whole or not at all."""
        from xclimb.models.checkpoint import save_potential

        return save_potential(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", dtype: str = "float32") -> "Potential":
        """Read a folder written by :meth:`save`.

        Raises:
            CheckpointError: on a missing, truncated, altered or newer file.
        """
        from xclimb.models.checkpoint import load_potential

        return load_potential(Path(folder)).to(device, dtype)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, XclimbWarning, stacklevel=5)


def dtype_of(dtype: str | torch.dtype) -> torch.dtype:
    """``"float32"`` or ``"float64"`` as a torch dtype."""
    resolved = dtype if isinstance(dtype, torch.dtype) else DTYPES.get(dtype)
    if resolved not in DTYPES.values():
        raise ConfigError(f"dtype {dtype!r} is not supported: use 'float32' or 'float64'")
    return resolved


def device_of(device: str | torch.device) -> torch.device:
    """Torch device by name, checked to be available."""
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device {device!r}: use 'cpu', 'cuda', 'cuda:0' or 'mps'") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(resolved.type, False):
        raise ConfigError(f"device {str(device)!r} is not available on this machine: use device='cpu'")
    return resolved


def as_frames(x: Any) -> tuple[Frames, bool]:
    """Convert structures of any supported type to Frames; also whether it was a single one.

    Raises:
        DataError: on something that is not a structure.
    """
    if isinstance(x, Frames):
        return x, False
    if isinstance(x, str | Path) or not isinstance(x, Iterable):
        detail = f"{type(x).__name__} {str(x)[:60]!r}"
        raise DataError(f"cannot predict {detail}: give ASE atoms, pymatgen structures or xclimb.read(...)")
    single = _is_structure(x)
    many = [x] if single else list(x)
    if not many:
        return Frames.empty(), False
    parts = [_one(item, index) for index, item in enumerate(many)]
    if single:
        return parts[0], True
    parts = [  # names that say where in the list
        part if isinstance(item, Frames) else part.replace(frame_id=np.array([f"structure {index}"]))
        for index, (item, part) in enumerate(zip(many, parts, strict=True))
    ]
    level = LevelOfTheory()
    return Frames.concatenate([part.with_theory(level) for part in parts]), False


def _is_structure(x: Any) -> bool:
    return hasattr(x, "get_atomic_numbers") or hasattr(x, "is_ordered")  # ASE atoms; pymatgen structure or molecule


def _one(item: Any, index: int) -> Frames:
    if isinstance(item, Frames):
        return item
    if hasattr(item, "get_atomic_numbers"):
        # geometry only: labels, in a calculator, info or arrays, play no part in a prediction, nor does a material
        name = str(item.info.get("frame_id", "frame-0"))
        geometry = {"numbers": item.numbers, "positions": item.positions, "cells": item.cell.array[None], "pbc": item.pbc[None]}
        return Frames(**geometry, offsets=np.array([0, len(item)]), material_id=np.array([""]), frame_id=np.array([name]))
    if hasattr(item, "is_ordered"):
        return Frames.from_pymatgen(item)
    raise DataError(f"item {index} is a {type(item).__name__}, not a structure: give ASE atoms or pymatgen structures")


def atom_batches(frames: Frames, limit: int) -> Iterator[Frames]:
    """Consecutive frames in groups of about ``limit`` atoms; a larger frame is a group of its own."""
    start = 0
    while start < len(frames):
        stop = int(np.searchsorted(frames.offsets, frames.offsets[start] + limit, side="right")) - 1
        stop = max(stop, start + 1)
        yield frames if stop - start == len(frames) else frames[start:stop]
        start = stop
