"""Names of labels in files: :class:`LabelKeys`, those that the user gives."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


def prefix_of(energy_key: str) -> str:
    """The prefix of a key of the form ``<prefix>energy``; of every other key none."""
    return energy_key.removesuffix("energy") if energy_key.endswith("energy") and energy_key != "free_energy" else ""


@dataclass(frozen=True)
class LabelKeys:
    """Names that labels have in a file, None for those that are recognised by themselves.

    Args:
        energy: total energy, eV.
        forces: eV/Å.
        stress: eV/Å^3, tension positive.
        virial: minus stress times volume, eV.
        magmom: magnetic moments of the atoms, µB.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    magmom: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """Quantity -> key, of those that the user gives."""
        return {field.name: key for field in fields(self) if (key := getattr(self, field.name)) is not None}

    def columns(self) -> dict[str, str]:
        """The keys given, by the names that labels have in :class:`xclimb.data.frames.Frames`, and ``"virial"``."""
        return {{"magmom": "magmoms"}.get(name, name): key for name, key in self.given.items()}

    def arguments(self) -> dict[str, Any]:
        """The keys as keyword arguments of :func:`xclimb.read`: ``energy_key``, ``forces_key``, ..."""
        return {f"{field.name}_key": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arguments(cls, named: Mapping[str, Any]) -> "LabelKeys":
        """The keys out of keyword arguments, among which may be others."""
        return cls(**{field.name: named.get(f"{field.name}_key") for field in fields(cls)})
