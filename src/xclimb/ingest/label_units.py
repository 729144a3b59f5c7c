"""Units of labels in files that do not state theirs: what the user says they are, and which one would mend a wrong factor."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.formats import format_of
from xclimb.formats.base import EV_UNITS, Source
from xclimb.units import LABEL_UNITS, label_unit

OPTIONS = {"energy": "energy_unit", "forces": "force_unit", "stress": "stress_unit"}


@dataclass(frozen=True)
class LabelUnits:
    """Units of the labels in the files, None for those that the format has as a rule.

    Args:
        energy: ``"Ha"``, ``"eV/atom"``, ..., see :func:`xclimb.units.label_unit`.
        forces: ``"Ha/Bohr"``, ...
        stress: ``"GPa"``, ``"-kbar"``, ...

    Raises:
        ConfigError: on an unknown unit.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None

    def __post_init__(self):
        for label, unit in self.given.items():
            label_unit(label, unit)

    @property
    def given(self) -> dict[str, str]:
        """Label -> unit, of those that the user says."""
        return {label: unit for label in OPTIONS if (unit := getattr(self, label)) is not None}

    def check(self, source: Source) -> None:
        """Refuse to give a unit to a file whose labels have one.

        Raises:
            ConfigError: naming the file.
        """
        if self.given and states_units(source.kind):
            label = next(iter(self.given))
            raise ConfigError(
                f"{source.path} ({source.kind}) states its units: ingest it by itself, without {OPTIONS[label]}=..."
            )

    def convert(self, frames: Frames, kind: str) -> Frames:
        """Frames of a file of this kind, as its reader gives them, with their labels in the units of xclimb."""
        columns = {}
        for label, unit in self.given.items():
            size, per_atom = label_unit(label, unit)
            usual, _ = label_unit(label, _native(kind)[label])
            columns[label] = getattr(frames, label) * (size / usual)
            if per_atom:
                columns[label] = columns[label] * frames.n_atoms
        return frames.replace(**columns) if columns else frames

    def mend(self, label: str, factor: float, per_atom: bool, kind: str) -> str:
        """The unit that takes a factor away which the labels of a file of this kind have.

        Args:
            label: ``"energy"``, ``"forces"`` or ``"stress"``.
            factor: label over truth.
            per_atom: whether the labels are energies per atom, read as total.
            kind: of the file.
        """
        size, was = label_unit(label, self.given.get(label, _native(kind)[label]))
        wanted = size / factor
        near = [name for name, other in LABEL_UNITS[label].items() if np.isclose(other, abs(wanted), rtol=1e-3)]
        return ("-" if wanted < 0 else "") + (near[0] if near else f"{abs(wanted):.6g}") + ("/atom" if per_atom or was else "")


def states_units(kind: str) -> bool:
    """Whether the units of the labels are part of a format, such as VASP's."""
    return format_of(kind).units is None


def _native(kind: str) -> Mapping[str, str]:
    return format_of(kind).units or EV_UNITS
