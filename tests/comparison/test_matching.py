import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, read_pairs
from xclimb.comparison.matching import match_structures, representatives
from xclimb.comparison.pairing import pair_frames
from xclimb.comparison.shift import shift
from xclimb.data.frames import Frames
from xclimb.errors import DataError


def relaxed_apart(seed: int = 0):
    """One frame a crystal on each side under other names, the high side strained, rattled, moved and out of order."""
    rng = np.random.default_rng(seed)
    low, high = read_pairs(DFT_PAIRS)
    _, first = np.unique(low.material_id, return_index=True)
    first = first[low.n_atoms[first] <= 4]
    low, high = low[first], high[rng.permutation(first)]
    truth = dict(zip(high.material_id.tolist(), range(len(high)), strict=True))
    positions = 1.03 * high.positions + rng.normal(0, 0.01, high.positions.shape) + 0.7
    renamed = {
        "material_id": np.array([f"b-{n}" for n in range(len(high))]),
        "frame_id": np.array([f"{n}" for n in range(len(high))]),
    }
    return low, high.replace(cells=1.03 * high.cells, positions=positions, **renamed), truth


def test_structures_are_found_again():
    low, high, truth = relaxed_apart()
    pairs = pair_frames(low, high)
    assert pairs.by == "structure"
    expected = [f"b-{truth[name]}" for name in pairs.low.material_id.tolist()]
    assert pairs.high.material_id.tolist() == expected
    assert len(pairs.low) == len(low)
    assert not pairs.same_structure.any()
    assert "Paired by structure" in pairs.notes[0]


def test_volume_change_of_materials_relaxed_apart():
    low, high, _ = relaxed_apart()
    found = shift(low, high)
    assert found.paired_by == "structure"
    assert found.volume_change == pytest.approx(1.03**3 - 1.0)
    assert found.n_forces == 0
    assert any("Paired by structure" in note for note in found.notes)
    assert any(one["topic"] == "relaxation" for one in found.advice)


def polymorphs(names) -> tuple[Frames, Frames]:
    low, high = read_pairs(DFT_PAIRS)
    _, first = np.unique(low.material_id, return_index=True)
    rows = np.array([row for row in first if low.material_id[row] in names])
    renamed = np.char.add("other-", high.frame_id[rows])
    return low[rows], high[rows[::-1]].replace(frame_id=renamed[::-1], material_id=renamed[::-1])


def test_polymorphs_are_told_apart():
    low, high = polymorphs(("C-dia", "C-graph", "SiO2-cri", "SiO2-rut"))
    pairs = pair_frames(low, high, "structure")
    assert [f"other-{name}" for name in pairs.low.frame_id] == pairs.high.frame_id.tolist()
    assert len(pairs.low) == 4


def test_what_is_ambiguous_or_left_over_is_told():
    low, high = polymorphs(("C-dia", "MgO-rs"))
    twice = Frames.concatenate([high, high.replace(frame_id=np.char.add("again-", high.frame_id))])
    unnamed = {"material_id": twice.formulas()}
    pairs = pair_frames(low, twice.replace(**unnamed), "structure")
    assert len(pairs.low) == 2
    assert "2 of 2 structures of the first set, 2 of 4 of the second" in pairs.notes[0]
    assert "2 structures match several" in pairs.notes[1]
    rows = np.arange(2), np.arange(4)
    few = match_structures(low, twice, *rows, most=3)
    assert len(few.low) == 1
    assert any("1 formulas were not compared" in note for note in few.notes)


def test_no_structure_matches():
    low, high = polymorphs(("C-dia",))
    other, _ = polymorphs(("C-graph",))
    with pytest.raises(DataError, match="no structure of the first set"):
        pair_frames(other, high, "structure")
    molecules = low.replace(pbc=np.zeros((1, 3), dtype=bool))
    with pytest.raises(DataError, match="no structure of the first set"):
        pair_frames(molecules, high, "structure")


def test_named_materials_are_stood_for_by_their_best_frame():
    low, _ = read_pairs(DFT_PAIRS)
    kept = representatives(low, np.arange(len(low)))
    assert len(np.unique(low.material_id[kept])) == 177
    assert len(kept) == 185  # of materials called by a formula (AlB2, TiB2, ...) nothing else is known: every frame
    row = kept[low.material_id[kept] == "Al-fcc"][0]
    assert low.energy_per_atom[row] == low.energy_per_atom[low.material_id == "Al-fcc"].min()
    assert len(representatives(low.replace(material_id=low.formulas()), np.arange(len(low)))) == len(low)


def test_pairing_is_chosen_and_can_be_asked_for():
    low, high = read_pairs(DFT_PAIRS)
    low, high = low[:8], high[:8]
    assert pair_frames(low, high).by == pair_frames(low, high, "frame").by == "frame_id"
    renamed = high.replace(frame_id=np.char.add("b", high.frame_id))
    assert pair_frames(low, renamed).by == pair_frames(low, renamed, "material").by == "material_id"
    formulas = {"material_id": low.formulas()}
    assert pair_frames(low.replace(**formulas), renamed.replace(**formulas)).by == "structure"
    assert pair_frames(low.replace(**formulas), renamed.replace(**formulas), "material").by == "material_id"
