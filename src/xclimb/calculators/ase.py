"""A potential as an ASE calculator: relaxations, molecular dynamics, phonons, everything that ASE drives."""

import math
import warnings
from pathlib import Path
from typing import Any, ClassVar, cast

from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from xclimb.errors import ConfigError, XclimbWarning
from xclimb.graph.neighbours import VerletList, find_bonds
from xclimb.models.potential import Potential, Prediction
from xclimb.models.zoo import load
from xclimb.units import full_to_voigt


class Calculator(AseCalculator):
    """ASE calculator of a potential.

    One evaluation gives all properties: ``energy`` and ``free_energy`` (eV), ``energies`` (eV of each atom, references
    included: the site energies), ``forces`` (eV/Å), ``stress`` (eV/Å^3, Voigt xx yy zz yz xz xy, tension
    positive; zero for a structure without a cell) and ``magmoms`` (µB, sizes). ASE keeps them until the atoms change, as is
    ``prediction``, the same as a :class:`~xclimb.models.potential.Prediction`; None before the first evaluation.

    Args:
        potential: zoo name, path of a run folder or saved potential, or a Potential.
        device: ``"cpu"``, ``"cuda"``, ...; None: the CPU, or where a given Potential is.
        dtype: ``"float32"`` or ``"float64"``; None: float32, or that of a given Potential. Choose float64 for finite
            differences (phonons, elastic constants) and tight relaxations.
        functional: one of those of a potential for several (``Potential.functionals``); None: the one it is made for.
        skin: Å; while no atom has moved by half of it and the cell stays, bonds come from a list of pairs that is kept, and
            are exactly those of a new search. 0 searches at every step.
        **kwargs: passed on to ASE (``atoms``, ``label``, ``directory``).

    Raises:
        CheckpointError: on an unknown name or an unreadable folder.
        ConfigError: on an unknown device or dtype, a functional that the potential has not, or a negative skin.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "energies", "forces", "stress", "magmoms"]
    # the network sees neither starting moments nor charges: changing them must not cost an evaluation
    ignored_changes: ClassVar[set[str]] = {"initial_magmoms", "initial_charges"}
    name = "xclimb"
    prediction: Prediction | None = None

    def __init__(
        self,
        potential: str | Path | Potential = "chgnet-0.3.0",
        device: str | None = None,
        dtype: str | None = None,
        skin: float = 0.5,
        functional: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0 <= skin < math.inf:
            raise ConfigError(f"skin={skin} is not a distance: give 0 Å or more, 0.5 fits most molecular dynamics")
        if not isinstance(potential, Potential):
            potential = load(potential, device or "cpu", dtype or "float32")
        elif device is not None or dtype is not None:
            potential = potential.to(device, dtype)
        if functional is not None or potential.others:
            potential = potential.at(functional or potential.functionals[0])
        self.potential = potential
        self.search = VerletList(skin) if skin else find_bonds
        # what a trajectory file keeps of the calculator (todict): text
        described = potential.describe()
        self.parameters.update(potential=potential.name, theory=str(potential.theory), dtype=described["dtype"])
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"Calculator({self.potential!r})"

    def reset(self) -> None:
        """Forget the results; called by ASE when the atoms have changed."""
        super().reset()
        self.prediction = None

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            warnings.warn(sentence, XclimbWarning, stacklevel=2)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | tuple[str, ...] | None = None,
        system_changes: list[str] | None = None,
    ) -> None:
        """Compute all properties of the atoms; called by ASE when the atoms have changed.

        What :meth:`Potential.predict` warns of (atoms that are too close, references without data) is said once.

        Raises:
            DataError: on a structure that cannot be computed (unknown element, overlapping atoms, NaN).
        """
        super().calculate(atoms, properties or ["energy"], all_changes if system_changes is None else system_changes)
        # geometry only, named by its formula: "frame Na4Cl4: ..." tells more in an error than a number
        bare = self.atoms.copy()
        bare.info = {"frame_id": self.atoms.get_chemical_formula()}
        bare.arrays = {name: bare.arrays[name] for name in ("numbers", "positions")}
        predicted = cast(Prediction, self.potential.predict(bare, search=self.search, warn=self._warn_once))
        self.prediction = predicted
        self.results = {
            "energy": predicted.energy,
            "free_energy": predicted.energy,
            "energies": predicted.site_energies.copy(),
            "forces": predicted.forces,
            "stress": full_to_voigt(predicted.stress),
            "magmoms": predicted.magmoms,
        }
