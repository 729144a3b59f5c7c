from dataclasses import dataclass, field

import numpy as np
import pytest

from comparison.planted import ELEMENTS, STEPS, plant
from xclimb.comparison.shift import shift
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError
from xclimb.references import AtomRef


@dataclass
class Told:
    """A potential that predicts the labels it was given, by frame id."""

    known: Frames
    references: AtomRef
    theory: LevelOfTheory = field(default_factory=lambda: LevelOfTheory("PBE", corrections="MP2020"))
    name: str = "told"

    def label(self, frames: Frames) -> Frames:
        at = [self.known.frame_id.tolist().index(name) for name in frames.frame_id]
        known = self.known[np.array(at)]
        return frames.replace(energy=known.energy, forces=known.forces, stress=known.stress, theory=self.theory)


def told():
    low, high = plant(np.random.default_rng(0))
    values = np.full(119, np.nan)
    values[ELEMENTS] = -3.0
    return Told(low, AtomRef(values, np.isfinite(values))), low, high


def test_a_potential_stands_for_the_low_side():
    potential, low, high = told()
    found, paired = shift(potential, high), shift(low, high)
    assert found.mean == paired.mean
    assert found.forces_slope == paired.forces_slope
    assert found.n_forces == len(high)
    assert str(found.theory_low) == "PBE, MP2020"
    assert any("predictions of told" in note for note in found.notes)
    assert any(one["topic"] == "level of theory" and "MP2020" in one["sentence"] for one in found.advice)
    assert found.reference_depth["errors"]["refit"] >= 0
    assert "refit" not in paired.reference_depth["errors"]


def test_raw_references_under_a_network_add_what_it_was_off():
    """The network's own step a element, which raw references of the high side do not know, is the error of a refit."""
    _, low, high = told()
    off = {**dict.fromkeys(ELEMENTS.tolist(), -3.0), 26: -2.0}
    values = np.full(119, np.nan)
    values[list(off)] = list(off.values())
    energy = low.composition() @ np.nan_to_num(values)  # interaction of zero
    flat = Told(low.replace(energy=energy), AtomRef(values, np.isfinite(values)))
    errors = shift(flat, high).reference_depth["errors"]
    assert errors["refit"] == pytest.approx(errors["raw"])


def test_frames_without_energy_are_not_predicted():
    potential, _, high = told()
    energy = high.energy.copy()
    energy[:2] = np.nan
    found = shift(potential, high.replace(energy=energy))
    assert found.n_pairs == len(high) - 2
    assert f"2 of {len(high)} frames of the second set carry no energy and were left out." in found.notes


def test_refusals():
    potential, _, high = told()
    with pytest.raises(DataError, match="to compare a potential with"):
        shift(potential, high.replace(energy=np.full(len(high), np.nan)))
    with pytest.raises(TheoryError, match="a shift needs two levels"):
        shift(potential, high.with_theory(potential.theory))
    assert len(STEPS) == len(ELEMENTS)
