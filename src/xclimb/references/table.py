"""AtomRef: reference energies of the elements, with coverage and uncertainty."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ReferencesError
from xclimb.files import read_json, write_json

TABLE_MAX_Z = 94  # the network's element table ends at Pu
_FORMAT = 1
_COLUMNS = {
    "values": np.float64,
    "covered": np.bool_,
    "stds": np.float64,
    "material_counts": np.int64,
    "frame_counts": np.int64,
}
_COUNTS = ("n_frames", "n_materials", "n_ignored")
_ERRORS = ("fit_mae", "fit_rmse", "held_out_mae")


def element_symbols() -> list[str]:
    """Symbols by atomic number."""
    from ase.data import chemical_symbols

    return chemical_symbols


def unknown_values() -> np.ndarray:
    """NaN for every atomic number ``[119]``."""
    return np.full(MAX_Z + 1, np.nan)


def zero_counts() -> np.ndarray:
    """Zero for every atomic number ``[119]``."""
    return np.zeros(MAX_Z + 1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class ReferencePosterior:
    """Belief behind ``informed`` references.

    Args:
        covariance: of the values, eV^2 ``[119, 119]``; NaN beyond Pu.
        noise: standard deviation of a material's energy beyond its references, eV/atom.
        tables: probability of each prior table, after the data.
        widths: standard deviations of the parts of the prior, eV.
        prior_share: variance of each value over its variance before the data ``[119]``: 1 rests on the prior, 0 on data.
    """

    covariance: np.ndarray
    noise: float
    tables: dict[str, float]
    widths: dict[str, float]
    prior_share: np.ndarray

    def to_dict(self) -> dict:
        """Dictionary for JSON; the lower triangle of the covariance, to six digits."""
        lower = [[float(f"{value:.6g}") for value in row[: z + 1]] for z, row in enumerate(self._table(self.covariance))]
        share = self.prior_share[1 : TABLE_MAX_Z + 1].tolist()
        return {"covariance": lower, "noise": self.noise, "tables": self.tables, "widths": self.widths, "prior_share": share}

    @classmethod
    def from_dict(cls, fields: dict) -> "ReferencePosterior":
        """The inverse of :meth:`to_dict`."""
        covariance: np.ndarray = np.full((MAX_Z + 1, MAX_Z + 1), np.nan)
        for z, row in enumerate(fields["covariance"], start=1):
            covariance[z, 1 : z + 1] = covariance[1 : z + 1, z] = row
        share = unknown_values()
        share[1 : TABLE_MAX_Z + 1] = fields["prior_share"]
        return cls(covariance, fields["noise"], dict(fields["tables"]), dict(fields["widths"]), share)

    @staticmethod
    def _table(covariance: np.ndarray) -> list[list[float]]:
        return covariance[1 : TABLE_MAX_Z + 1, 1 : TABLE_MAX_Z + 1].tolist()


@dataclass(frozen=True, eq=False)
class AtomRef:
    """Reference energies of the elements, flat by atomic number.

    Args:
        values: eV/atom ``[119]``, NaN where unknown.
        covered: whether data determined the value ``[119]``; a known value that is not covered was kept from elsewhere.
        kind: ``"informed"``, ``"raw"``, ``"residual"``, ``"robust"``, or ``"table"`` for values that were given.
        theory: level of theory of the energies.
        stds: standard deviations, eV ``[119]``; inf for an undetermined element, NaN where none can be stated.
        undetermined: groups of elements that occur only in fixed proportions: combinations of their references are determined,
            single ones are not. They count as covered.
        material_counts: materials that contain the element ``[119]``.
        frame_counts: frames that contain the element ``[119]``.
        n_frames: frames of the fit.
        n_materials: materials of the fit.
        n_ignored: frames left out since they carry no energy.
        fit_mae: mean absolute residual over the frames of the fit, meV/atom.
        fit_rmse: root mean square of the same, meV/atom.
        held_out_mae: mean absolute error of frames whose material was left out of the fit, meV/atom; NaN for robust fits.
        notes: remarks on these numbers, a sentence each.
        posterior: of ``informed`` references: correlations, and what they rest on.

    Raises:
        ReferencesError: on arrays of another length than 119.
    """

    values: np.ndarray
    covered: np.ndarray
    kind: str = "table"
    theory: LevelOfTheory = field(default_factory=LevelOfTheory)
    stds: np.ndarray = field(default_factory=unknown_values)
    undetermined: tuple[tuple[str, ...], ...] = ()
    material_counts: np.ndarray = field(default_factory=zero_counts)
    frame_counts: np.ndarray = field(default_factory=zero_counts)
    n_frames: int = 0
    n_materials: int = 0
    n_ignored: int = 0
    fit_mae: float = math.nan
    fit_rmse: float = math.nan
    held_out_mae: float = math.nan
    notes: tuple[str, ...] = ()
    posterior: ReferencePosterior | None = None

    def __post_init__(self):
        for name, dtype in _COLUMNS.items():
            array: np.ndarray = np.array(getattr(self, name), dtype=dtype)
            if array.shape != (MAX_Z + 1,):
                raise ReferencesError(f"references column {name!r} has shape {array.shape}: give one entry a Z, ({MAX_Z + 1},)")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        return (
            f"AtomRef({self.kind}, {self.theory}, {int(self.covered.sum())} elements from data, {int(self.known.sum())} known)"
        )

    # -- by symbol ------------------------------------------------------------------------------

    def _by_symbol(self, array: np.ndarray, mask: np.ndarray) -> dict:
        symbols = element_symbols()
        return {symbols[z]: array[z].item() for z in np.flatnonzero(mask)}

    @property
    def known(self) -> np.ndarray:
        """Whether the element has a value, from data or kept ``[119]``."""
        return np.isfinite(self.values)

    @property
    def determined(self) -> np.ndarray:
        """Whether data determined the element's own value ``[119]``: covered, and in no undetermined group."""
        grouped = {symbol for group in self.undetermined for symbol in group}
        return self.covered & ~np.isin(np.array(element_symbols()[: MAX_Z + 1]), sorted(grouped))

    @property
    def energies(self) -> dict[str, float]:
        """Known reference energies, eV, by symbol in order of atomic number; all finite."""
        return self._by_symbol(self.values, self.known)

    @property
    def std(self) -> dict[str, float]:
        """Standard deviations, eV; inf where undetermined, NaN where none can be stated; ``informed``: of all elements."""
        return self._by_symbol(self.stds, self.covered | np.isfinite(self.stds))

    @property
    def prior_share(self) -> dict[str, float]:
        """Variance of each value over its variance before the data: 1 rests on the prior, 0 (as every other fit) on data."""
        share = self.posterior.prior_share if self.posterior is not None else np.zeros(MAX_Z + 1)
        return self._by_symbol(share, self.covered | np.isfinite(self.stds))

    @property
    def materials(self) -> dict[str, int]:
        """Number of materials that contain each element with data."""
        return self._by_symbol(self.material_counts, self.covered)

    @property
    def frames(self) -> dict[str, int]:
        """Number of frames that contain each element with data."""
        return self._by_symbol(self.frame_counts, self.covered)

    @property
    def uncovered_numbers(self) -> dict[str, int]:
        """Symbol -> Z of the elements up to Pu without data: kept from elsewhere, or unknown (then not in ``energies``)."""
        numbers = np.arange(MAX_Z + 1)
        in_table = (numbers >= 1) & (numbers <= TABLE_MAX_Z)
        return self._by_symbol(numbers, (in_table | self.known) & ~self.covered)

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Symbols of ``uncovered_numbers``."""
        return tuple(self.uncovered_numbers)

    # -- use ------------------------------------------------------------------------------------

    def energy(self, frames: Frames) -> np.ndarray:
        """Total reference energies of frames, eV ``[S]`` float64.

        Raises:
            ReferencesError: on an element without a known value, naming element and frame.
        """
        of_atoms = self.values[frames.numbers]
        missing = np.flatnonzero(np.isnan(of_atoms))
        if len(missing):
            names = ", ".join(element_symbols()[z] for z in np.unique(frames.numbers[missing]))
            frame = frames.frame_id[frames.system[missing[0]]]
            raise ReferencesError(
                f"no reference energy for {names} (first in frame {frame}): fit references on data that contain "
                "these elements, or fill the gaps with references.merged_over(other)"
            )
        return np.bincount(frames.system, of_atoms, len(frames)).astype(np.float64)

    def energy_std(self, frames: Frames) -> np.ndarray:
        """Standard deviation of the reference energies of frames, eV ``[S]``, with their correlations.

        Raises:
            ReferencesError: if these references are not ``informed``: then only single elements have one, in ``std``.
        """
        if self.posterior is None:
            raise ReferencesError(f"{self.kind} references keep no correlations: fit them with kind='informed'")
        elements = frames.elements
        counts = frames.composition()[:, elements].astype(np.float64)  # [S, K]
        covariance = self.posterior.covariance[elements[:, None], elements]  # [K, K]
        return np.sqrt(np.einsum("sk,kl,sl->s", counts, covariance, counts))

    def merged_over(self, base: "AtomRef") -> "AtomRef":
        """These references with unknown elements filled from another table; filled elements stay in ``uncovered``."""
        return replace(self, values=np.where(self.known, self.values, base.values))

    # -- from values ----------------------------------------------------------------------------

    @classmethod
    def from_table(cls, values, covered=None, kind: str = "table", theory: LevelOfTheory | None = None) -> "AtomRef":
        """References from a table that starts at hydrogen.

        Args:
            values: eV/atom ``[n]`` for Z = 1 ... n, NaN where unknown.
            covered: which entries rest on data ``[n]``; by default those that are neither zero nor NaN (a table fitted with
                minimum norm holds 0.0 for elements it never saw). The others keep their value, and are named in ``uncovered``.
            kind: how the values came about.
            theory: their level of theory.

        Raises:
            ReferencesError: if the lengths do not fit.
        """
        table = np.asarray(values, dtype=np.float64).reshape(-1)
        mask = np.isfinite(table) & (table != 0.0) if covered is None else np.asarray(covered, dtype=np.bool_).reshape(-1)
        if len(table) > MAX_Z or mask.shape != table.shape:
            raise ReferencesError(f"{len(table)} references with {len(mask)} coverage flags: give one of each for Z = 1 ... n")
        by_z, covered_by_z = unknown_values(), zero_counts()
        by_z[1 : len(table) + 1], covered_by_z[1 : len(table) + 1] = table, mask
        return cls(by_z, covered_by_z, kind, theory or LevelOfTheory())

    @classmethod
    def from_energies(cls, energies: dict[str, float], kind: str = "table", theory: LevelOfTheory | None = None) -> "AtomRef":
        """References from ``{symbol: eV}``.

        Raises:
            ReferencesError: on a symbol that is no element.
        """
        by_z = unknown_values()
        for symbol, value in energies.items():
            by_z[_number(symbol)] = value
        return cls(by_z, np.isfinite(by_z), kind, theory or LevelOfTheory())

    # -- JSON -----------------------------------------------------------------------------------

    def to_dict(self) -> dict:
        """Dictionary for JSON; numbers that are not finite become null."""
        named = ("energies", "std", "materials", "frames")
        by_symbol = {name: {symbol: _finite(value) for symbol, value in getattr(self, name).items()} for name in named}
        scalars = {name: _finite(getattr(self, name)) for name in _COUNTS + _ERRORS}
        groups = {"uncovered": list(self.uncovered), "undetermined": [list(group) for group in self.undetermined]}
        head = {"format": _FORMAT, "kind": self.kind, "theory": self.theory.to_dict()}
        belief = {"posterior": self.posterior.to_dict()} if self.posterior is not None else {}
        return head | by_symbol | groups | scalars | {"notes": list(self.notes)} | belief

    @classmethod
    def from_dict(cls, fields: dict) -> "AtomRef":
        """The inverse of :meth:`to_dict`.

        Raises:
            ReferencesError: if the dictionary holds no references, or those of another format.
        """
        if fields.get("format") != _FORMAT or "energies" not in fields:
            raise ReferencesError(f"not elemental references of format {_FORMAT}: write them with references.save(...)")
        columns: dict[str, Any] = {"values": unknown_values(), "stds": unknown_values()}
        columns |= {"material_counts": zero_counts(), "frame_counts": zero_counts(), "covered": zero_counts()}
        undetermined = tuple(tuple(group) for group in fields["undetermined"])
        for symbol, value in fields["energies"].items():
            columns["values"][_number(symbol)] = value
        for symbol, value in fields["std"].items():
            z = _number(symbol)
            columns["stds"][z] = np.nan if value is None else value
        for symbol, count in fields["materials"].items():  # only elements with data are counted
            z = _number(symbol)
            columns["covered"][z] = True
            columns["material_counts"][z], columns["frame_counts"][z] = count, fields["frames"][symbol]
        columns["stds"][[_number(symbol) for group in undetermined for symbol in group]] = np.inf
        scalars: dict[str, Any] = {name: int(fields[name]) for name in _COUNTS}
        scalars |= {name: math.nan if fields[name] is None else float(fields[name]) for name in _ERRORS}
        theory, notes = LevelOfTheory.from_dict(fields["theory"]), tuple(fields["notes"])
        belief = ReferencePosterior.from_dict(fields["posterior"]) if "posterior" in fields else None
        head = {"kind": fields["kind"], "theory": theory, "undetermined": undetermined, "notes": notes, "posterior": belief}
        return cls(**columns, **scalars, **head)

    def save(self, path: str | Path) -> None:
        """Write as JSON; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> "AtomRef":
        """Read a file written by :meth:`save`.

        Raises:
            ReferencesError: if the file is missing, damaged, or holds something else.
        """
        try:
            return cls.from_dict(dict(read_json(Path(path))))
        except (OSError, ValueError, KeyError, TypeError, ReferencesError) as problem:
            detail = problem.strerror if isinstance(problem, OSError) else f"not references of format {_FORMAT}"
            raise ReferencesError(
                f"cannot read references from {path} ({detail}): write them with references.save(...)"
            ) from problem


def _number(symbol: str) -> int:
    symbols = element_symbols()
    if symbol not in symbols[1:]:
        raise ReferencesError(f"{symbol!r} is no element: give references as {{'Fe': -8.3, ...}} in eV/atom")
    return symbols.index(symbol)


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
