import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.formula import Formula

from comparison.pairs import DFT_PAIRS, read_pairs
from xclimb.comparison.elemental_references import elemental_energies, resolve_elemental_references
from xclimb.comparison.hull import chemical_systems, decomposition_energies
from xclimb.comparison.shift import ShiftReport, shift
from xclimb.comparison.stability import stability
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError
from xclimb.references import AtomRef


def frames_of(energies: dict[str, float], functional: str = "PBE") -> Frames:
    """A frame a name, ``formula`` or ``formula-name``, with these energies per atom."""
    numbers, counts, total = [], [], []
    for name, energy in energies.items():
        atoms = [atomic_numbers[s] for s, n in Formula(name.split("-")[0]).count().items() for _ in range(n)]
        numbers += atoms
        counts.append(len(atoms))
        total.append(energy * len(atoms))
    size = len(counts)
    return Frames(
        numbers=np.array(numbers), positions=np.zeros((len(numbers), 3)), cells=np.tile(np.eye(3) * 5, (size, 1, 1)),
        pbc=np.ones((size, 3), bool), offsets=np.concatenate([[0], np.cumsum(counts)]), energy=np.array(total),
        material_id=np.array(list(energies)), frame_id=np.array(list(energies)), theory=LevelOfTheory(functional),
    )  # fmt: skip


ELEMENTS = {"Li": -2.0, "O2": -4.0}
# formation energies, eV/atom: Li2O on the hull, Li2O2 just above its line to O on one side and below on the other
LOW = ELEMENTS | {"Li2O": -8 / 3 - 2.0, "Li2O-high": -8 / 3 - 1.8, "Li2O2": -3.0 - 1.45}
HIGH = {"Li": -3.0, "O2": -9.0, "Li2O": -5.0 - 2.1, "Li2O-high": -5.0 - 1.9, "Li2O2": -6.0 - 1.6}


def test_planted_hull():
    found = stability(frames_of(LOW), frames_of(HIGH, "r2SCAN"))
    at = dict(zip(found.material_id.tolist(), range(found.n_compounds), strict=True))
    assert found.n_compounds == found.n_hull == 3
    assert "3 compounds: formation energies differ by" in repr(found)
    assert len(repr(found)) < 200
    order = [at[name] for name in ("Li2O", "Li2O-high", "Li2O2")]
    np.testing.assert_allclose(found.formation_low[order], [-2.0, -1.8, -1.45])
    np.testing.assert_allclose(found.formation_high[order], [-2.1, -1.9, -1.6])
    # Li2O2 -> Li2O + O: three quarters of its atoms are in Li2O; Li2O -> Li2O2 + Li where Li2O2 is there: 2/3 of the atoms
    np.testing.assert_allclose(found.decomposition_low[order], [-2.0 + 2 / 3 * 1.45, 0.2, 1.5 - 1.45], atol=1e-6)
    np.testing.assert_allclose(found.decomposition_high[order], [-2.1 + 2 / 3 * 1.6, 0.2, 0.75 * 2.1 - 1.6], atol=1e-6)
    assert [(one["material_id"], one["stable_on"]) for one in found.changed] == [("Li2O2", "high")]
    assert found.changed[0]["low"] == pytest.approx(50.0, abs=1e-3)
    assert (found.n_stable_low, found.n_stable_high) == (1, 2)
    assert found.formation_mae == pytest.approx(1e3 * (0.1 + 0.1 + 0.15) / 3)
    assert found.formation_mean == pytest.approx(-found.formation_mae)
    assert found.end_points["O"] == {"low": -4.0, "high": -9.0, "supplied": False}
    json.dumps(found.to_dict(), allow_nan=False)
    assert "Li2O2 (Li2O2)" not in found.summary()[0]
    assert any(line.startswith("Li2O2 (LiO): +50 (low)") for line in found.summary())


def test_hull_against_linear_programming():
    """Every compound of random ternary systems: the cheapest mixture of the others, by scipy."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    counts = np.unique(rng.integers(0, 4, (40, 3)), axis=0)
    counts = counts[(counts > 0).sum(1) > 1]
    fractions = counts / counts.sum(1, keepdims=True)
    _, kept = np.unique(fractions.round(9), axis=0, return_index=True)
    fractions = fractions[np.sort(kept)]
    formation = -4.0 * fractions.prod(1, where=fractions > 0) + rng.normal(0, 0.15, len(fractions))
    systems = chemical_systems(fractions)
    found = decomposition_energies(np.array([3, 8, 26]), fractions, formation, systems, np.arange(len(systems)))
    points = np.concatenate([fractions, np.eye(3)])
    energies = np.concatenate([formation, np.zeros(3)])
    expected = []
    for r, point in enumerate(fractions):
        others = np.delete(np.arange(len(points)), r)
        cheapest = optimize.linprog(energies[others], A_eq=points[others].T, b_eq=point).fun
        expected.append(formation[r] - cheapest)
    assert (np.array(expected) < 0).any()
    assert (np.array(expected) > 0).any()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noble_gases_are_elements_like_others():
    """Warnings are errors here, and pymatgen warns of elements without electronegativity."""
    low = {"Ne": -0.1, "Mg": -1.5, "MgNe": -1.0, "Mg2Ne3": -0.9}
    found = stability(frames_of(low), frames_of(low))
    assert found.n_hull == 2
    assert found.formation_mae == 0.0


def test_end_points_that_are_missing_are_named():
    low, high = dict(LOW), dict(HIGH)
    low |= {"LiF": -4.0}
    high |= {"LiF": -5.0}
    found = stability(frames_of(low), frames_of(high, "r2SCAN"))
    assert found.missing == {"F": 1}
    assert "LiF" not in found.material_id
    assert any("F (1 compound)" in note for note in found.notes)
    with pytest.raises(DataError, match=r"none of the 1 compounds.*Li \(1 compound\), F \(1 compound\).*supply"):
        stability(frames_of({"LiF": -4.0}), frames_of({"LiF": -5.0}))
    with pytest.raises(DataError, match="hold no compound"):
        stability(frames_of(ELEMENTS), frames_of(ELEMENTS))


def test_end_points_can_be_supplied():
    compounds = [frames_of({name: side[name] for name in side if name not in ELEMENTS}) for side in (LOW, HIGH)]
    whole = stability(frames_of(LOW), frames_of(HIGH))
    ends = [{"Li": side["Li"], "O": side["O2"]} for side in (LOW, HIGH)]
    by_number = stability(*compounds, *ends)
    np.testing.assert_allclose(by_number.decomposition_high, whole.decomposition_high)
    by_frames = stability(*compounds, *(frames_of({"Li-a": e["Li"] + 1, "Li-b": e["Li"], "O2": e["O"]}) for e in ends))
    assert by_frames.end_points["Li"] == {"low": -2.0, "high": -3.0, "supplied": True}
    np.testing.assert_allclose(by_frames.formation_low, whole.formation_low)
    for wrong, told in (({"Xx": 1.0}, "no element"), ({"Li": "1"}, "eV/atom"), (frames_of({"LiF": -1.0}), "no pure element")):
        with pytest.raises(ConfigError, match=told):
            stability(*compounds, wrong, ends[1])


@dataclass
class Sums:
    """A potential: an energy an element, and one eV an atom for compounds."""

    theory: LevelOfTheory = field(default_factory=lambda: LevelOfTheory("r2SCAN"))
    references: AtomRef = field(default_factory=lambda: AtomRef.from_energies({"Li": -1.0, "O": -2.0}))

    def label(self, frames: Frames) -> Frames:
        mixed = np.array([len(np.unique(frame.numbers)) > 1 for frame in frames])
        return frames.replace(energy=self.references.energy(frames) - mixed * frames.n_atoms, theory=self.theory)


def test_a_potential_is_compared_at_its_own_level():
    found = stability(Sums(), frames_of(HIGH, "r2SCAN"))
    np.testing.assert_allclose(found.formation_low, -1.0)
    assert any("predictions of" in note for note in found.notes)
    compounds = frames_of({name: HIGH[name] for name in HIGH if name not in ELEMENTS}, "r2SCAN")
    again = stability(Sums(), compounds, ends_high=frames_of({"Li": -3.0, "O2": -9.0}))
    np.testing.assert_allclose(again.formation_low, -1.0)
    np.testing.assert_allclose(again.decomposition_high, found.decomposition_high)


def test_elemental_energies_of_any_frames():
    frames = frames_of({"Li": -2.0, "Li-b": -1.5, "LiO": -9.0, "O2": -4.0})
    energy = frames.energy.copy()
    energy[0] = np.nan
    found = elemental_energies(frames.replace(energy=energy))
    assert {z: found[z] for z in np.flatnonzero(np.isfinite(found)).tolist()} == {3: -1.5, 8: -4.0}
    assert not np.isfinite(elemental_energies(frames[:0])).any()
    ends = resolve_elemental_references(frames, frames, {"Li": -7.0})
    assert (ends.low[3], ends.high[3]) == (-7.0, -2.0)


def test_of_many_systems_some_are_drawn():
    found = stability(*read_pairs(DFT_PAIRS), most_systems=3)
    assert found.n_systems == 28
    assert found.n_hull < found.n_compounds == 29
    assert any("3 of 28 chemical systems" in note for note in found.notes)


def test_real_pairs_in_a_shift():
    found = shift(*read_pairs(DFT_PAIRS))
    assert found.stability["n_compounds"] == 29
    assert found.stability["missing"]["O"] == 30
    assert found.stability["formation_mae"] == pytest.approx(129.6, abs=0.05)
    assert set(found.stability["end_points"]) >= {"Al", "Li", "S", "Zn"}
    again = ShiftReport.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again.stability == found.stability
    low, high = (side[side.material_id == "MgO-rs"] for side in read_pairs(DFT_PAIRS))
    assert "missing O (1 compound), Mg (1 compound)" in shift(low, high).stability["absent"]
