import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.made import crystals, frames_sets, same
from xclimb.data.frames import COLUMNS, LABELS, Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError


@settings(max_examples=25)
@given(frames_sets(), st.data())
def test_indexing_picks_the_rows_of_each_frame(frames, data):
    size = len(frames)
    index = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=6) if size else st.just([])), dtype=np.int64)
    picked = frames[index]
    assert len(picked) == len(index)
    for new, old in enumerate(index):
        for name, column in COLUMNS.items():
            mine, theirs = getattr(picked, name), getattr(frames, name)
            if column.scope == "atom":
                mine = mine[picked.offsets[new] : picked.offsets[new + 1]]
                theirs = theirs[frames.offsets[old] : frames.offsets[old + 1]]
                np.testing.assert_array_equal(mine, theirs)
            else:
                np.testing.assert_array_equal(mine[new], theirs[old])
        for name, values in frames.extras.items():
            assert picked.extras[name][new] == values[old]


@settings(max_examples=25)
@given(frames_sets(), st.data())
def test_concatenating_the_pieces_gives_the_whole(frames, data):
    cut = data.draw(st.integers(0, len(frames)))
    same(Frames.concatenate([frames[:cut], frames[cut:]]), frames)


@settings(max_examples=25)
@given(frames_sets())
def test_masks_slices_and_arrays_agree(frames):
    mask = np.arange(len(frames)) % 2 == 0
    same(frames[mask], frames[np.flatnonzero(mask)])
    same(frames[mask], frames[::2])


@settings(max_examples=25)
@given(frames_sets())
def test_one_checksum_for_one_content(frames):
    assert frames.checksum() == frames[:].checksum()
    if len(frames):
        assert frames.checksum() != frames.replace(cells=frames.cells + 1e-12).checksum()
    assert frames.checksum() != frames.with_theory(LevelOfTheory("HSE06")).checksum()


@settings(max_examples=25)
@given(frames_sets(whole_labels=True))
def test_ase_and_back(frames):
    theory = frames.theory
    back = Frames.from_ase(frames.to_ase(), theory)
    if len(frames):
        magmoms = frames.magmoms
        same(back, frames.replace(magmoms=magmoms))


@settings(max_examples=25)
@given(frames_sets(extras=False))
def test_pymatgen_and_back(frames):
    frames = frames[frames.pbc.all(axis=1)]
    back = Frames.from_pymatgen(frames.to_pymatgen())
    np.testing.assert_array_equal(back.numbers, frames.numbers)
    np.testing.assert_allclose(back.positions, frames.positions, atol=1e-10)
    np.testing.assert_allclose(back.cells, frames.cells, atol=1e-12)
    np.testing.assert_array_equal(back.magmoms, frames.magmoms)


def test_an_empty_choice_is_an_empty_set():
    frames = crystals()
    for none in ([], np.array([]), np.zeros(3, dtype=bool), slice(0, 0)):
        assert len(frames[none]) == 0
    assert len(frames[2]) == 1
    with pytest.raises(IndexError):
        frames[3]
    assert [len(one) for one in frames] == [1, 1, 1]


def test_defaults_of_ids_and_labels():
    frames = crystals().replace(energy=None, forces=None, frame_id=None, material_id=None)
    assert frames.frame_id.tolist() == ["frame-0", "frame-1", "frame-2"]
    assert frames.material_id.tolist() == ["Na", "OCl", "NaOCl"]
    assert [name for name in LABELS if frames.has(name)] == ["stress", "magmoms"]


def test_formulas_are_reduced_and_in_the_order_of_chemists():
    frames = crystals(sizes=(4, 6, 1), numbers=[13, 13, 8, 8, 13, 8, 8, 13, 8, 8, 0])
    assert frames.formulas().tolist() == ["AlO", "AlO2", "X"]
    assert Frames.empty().formulas().tolist() == []
    salts = crystals(sizes=(2, 2, 4, 3), numbers=[17, 11, 8, 30, 1, 1, 7, 1, 8, 1, 1])
    assert salts.formulas().tolist() == ["NaCl", "ZnO", "NH3", "H2O"]


def test_composition_counts_atoms():
    counts = crystals(sizes=(3, 2), numbers=[8, 8, 1, 26, 26]).composition()
    assert counts.shape == (2, 119)
    assert counts[0, 8] == 2
    assert counts[0, 1] == 1
    assert counts[1, 26] == 2
    assert counts.sum() == 5


def test_concatenating_fills_extras_that_one_set_lacks():
    one = crystals().replace(extras={"source": np.array(["a", "b", "c"]), "rank": np.arange(3)})
    both = Frames.concatenate([one, crystals()])
    assert both.extras["source"].tolist() == ["a", "b", "c", "", "", ""]
    np.testing.assert_array_equal(both.extras["rank"], [0, 1, 2, np.nan, np.nan, np.nan])


def test_levels_of_theory_do_not_mix():
    with pytest.raises(TheoryError, match=r"PBE against r2SCAN.*with_theory"):
        Frames.concatenate([crystals(functional="PBE"), crystals()])
    with pytest.raises(DataError, match="nothing to concatenate"):
        Frames.concatenate([])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"energy": np.zeros(2)}, r"'energy' has shape \(2,\), expected \(3,\)"),
        ({"forces": np.zeros((3, 3))}, r"'forces' has shape"),
        ({"offsets": np.array([0, 3, 1, 6])}, "never decrease"),
        ({"extras": {"kind": np.zeros(1)}}, "extra column 'kind' has 1 rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, told):
    with pytest.raises(DataError, match=told):
        crystals().replace(**change)
