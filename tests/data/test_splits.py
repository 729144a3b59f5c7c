import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.made import crystals
from xclimb.data.frames import Frames
from xclimb.data.samples import load_sample
from xclimb.data.splits import Split, nested_subsets, split_frames
from xclimb.errors import DataError, XclimbWarning


def groups_of(sizes, elements=None):
    """Frames of one atom: group g has sizes[g] frames, all of one element."""
    if not sizes:
        return Frames.empty()
    elements = elements or [1] * len(sizes)
    materials = [f"m{g:03d}" for g, size in enumerate(sizes) for _ in range(size)]
    numbers = [z for z, size in zip(elements, sizes, strict=True) for _ in range(size)]
    return crystals(sizes=[1] * sum(sizes), materials=materials, numbers=numbers)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)
        yield


@pytest.mark.usefixtures("quiet")
@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=25),
    seed=st.integers(0, 2**32),
    ratios=st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.1, 0.2), (0.9, 0.1, 0.0), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0)]),
    cover=st.booleans(),
)
def test_every_frame_in_one_part_and_every_group_on_one_side(sizes, seed, ratios, cover):
    frames = groups_of(sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)
        split = split_frames(frames, ratios, "material", seed, cover, group="ids")
    parts = [split.train, split.val, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(frames)))
    groups = [set(frames.material_id[part]) for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    for part, ratio in zip(parts, ratios, strict=True):
        assert (len(part) > 0) == (ratio > 0)


def test_shares_are_met_as_closely_as_groups_allow():
    split = split_frames(groups_of([5] * 100), (0.8, 0.1, 0.1), group="ids")
    assert [len(part) for part in (split.train, split.val, split.test)] == [400, 50, 50]


def test_a_split_depends_on_data_and_seed_not_on_order():
    frames = load_sample()
    shuffled = frames[np.random.default_rng(5).permutation(len(frames))]
    ids = [set(part.frame_id) for part in split_frames(frames, seed=3).apply(frames)]
    assert ids == [set(part.frame_id) for part in split_frames(shuffled, seed=3).apply(frames)]
    assert ids != [set(part.frame_id) for part in split_frames(frames, seed=4).apply(frames)]


def test_the_same_numbers_on_every_machine():
    split = split_frames(groups_of([1] * 30), (0.6, 0.2, 0.2), seed=7, group="ids")
    assert split.val.tolist() == [1, 5, 6, 15, 16, 20]


@pytest.mark.usefixtures("quiet")
def test_groups_with_an_element_of_their_own_are_put_in_train_and_named():
    elements = [8] * 12 + [26, 27, 28]
    named = set()
    for seed in range(8):
        split = split_frames(groups_of([2] * 15, elements), (0.6, 0.2, 0.2), seed=seed, group="ids")
        assert set(np.array(elements).repeat(2)[split.train]) == {8, 26, 27, 28}
        free = split_frames(groups_of([2] * 15, elements), (0.6, 0.2, 0.2), seed=seed, cover=False, group="ids")
        assert free.names == ()
        outside = {f"m{g:03d}" for g in (12, 13, 14) if 2 * g not in free.train}
        assert set(split.names) == outside
        named |= outside
    assert named == {"m012", "m013", "m014"}


@pytest.mark.usefixtures("quiet")
def test_an_element_that_all_fell_outside_train_is_brought_back():
    elements = [8] * 10 + [26, 26]
    for seed in range(30):
        split = split_frames(groups_of([1] * 12, elements), (0.5, 0.2, 0.3), seed=seed, group="ids")
        assert 26 in np.array(elements)[split.train]


def test_by_composition_keeps_polymorphs_together():
    frames = groups_of([1] * 40, [1 + g // 4 for g in range(40)])
    with pytest.warns(XclimbWarning, match="few compositions"):
        split = split_frames(frames, (0.6, 0.2, 0.2), by="composition", cover=False)
    sets = [set(frames.formulas()[part]) for part in (split.train, split.val, split.test)]
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]


@pytest.mark.parametrize(
    ("sizes", "kwargs", "told"),
    [
        ([9, 9], {"by": "material", "group": "ids"}, "2 materials cannot be split into 3 parts"),
        ([], {}, "0 materials cannot be split"),
        ([1], {}, "1 material cannot be split"),
        ([1] * 9, {"group": "colour"}, "'structure', 'ids', 'composition', 'chemical-system'"),
        ([9], {"by": "frame", "gap": -1}, "0 or more frames"),
        ([9] * 5, {"by": "material", "gap": 1}, "by='frame'"),
        ([4], {"by": "frame"}, "frames enough for 3 blocks with a gap"),
        ([1] * 9, {"ratios": (0.8, 0.1, 0.2)}, "sum to 1"),
        ([1] * 9, {"ratios": (0.0, 0.5, 0.5)}, "train above 0"),
        ([1] * 9, {"ratios": (0.8, 0.2)}, "three shares"),
        ([1] * 9, {"by": "colour"}, "'material' or 'frame'"),
    ],
)
def test_splits_that_cannot_be(sizes, kwargs, told):
    with pytest.raises(DataError, match=told):
        split_frames(groups_of(sizes), **kwargs)


def test_nothing_left_outside_train_is_an_error():
    frames = groups_of([1] * 5, [1, 2, 3, 4, 5])
    with pytest.raises(DataError, match=r"no material is left for val and test.*cover=False"):
        split_frames(frames)


@pytest.mark.usefixtures("quiet")
def test_parts_are_made_of_what_training_can_spare():
    """Elements 1 and 2 have three materials each, which one shuffle or another all puts outside of train."""
    elements = [1, 1, 1, 2, 2, 2, 3, 4, 5, 6]
    for seed in range(20):
        split = split_frames(groups_of([2] * 10, elements), (0.6, 0.2, 0.2), "material", seed, group="ids")
        frames = groups_of([2] * 10, elements)
        assert len(split.val)
        assert len(split.test)
        assert set(frames[split.train].numbers.tolist()) == set(elements)


def test_few_groups_warn():
    with pytest.warns(XclimbWarning, match=r"few materials in a part of the split \(val 1, test 1\)"):
        split_frames(groups_of([3] * 8), cover=False, group="ids")


def test_saved_and_applied_to_the_other_functional(tmp_path):
    frames, other = load_sample(functional="PBE"), load_sample(functional="r2SCAN")
    split = split_frames(frames, seed=2)
    split.save(tmp_path / "split.json")
    loaded = Split.load(tmp_path / "split.json")
    assert (loaded.seed, loaded.by, loaded.ratios, loaded.names) == (split.seed, split.by, split.ratios, split.names)
    shuffled = other[::-1]
    for part, again in zip(split.apply(frames), loaded.apply(shuffled), strict=True):
        assert part.frame_id.tolist() == again.frame_id.tolist()
        assert again.theory.functional == "r2SCAN"
    assert Split.from_dict(split.to_dict()).to_dict() == split.to_dict()


def test_applied_to_fewer_or_to_other_frames():
    frames = load_sample()
    split = split_frames(frames)
    with pytest.warns(XclimbWarning, match=r"3 of the split's 385 frames are not in these data"):
        parts = split.apply(frames[3:])
    assert sum(map(len, parts)) == 382
    with pytest.raises(DataError, match=r"frame f0 \(and 2 more\) is in no part of the split"):
        split.apply(crystals())
    with pytest.raises(DataError, match="not unique"):
        split.apply(frames[[0, 0]])


def test_files_that_are_no_split(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Split.load(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        Split.load(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text('{"train": ["a"]}')
    with pytest.raises(DataError, match="no xclimb split"):
        Split.load(tmp_path / "other.json")
    twice = split_frames(load_sample()).to_dict() | {"val": ["Al-fcc/0", "Al-fcc/0"]}
    with pytest.raises(DataError, match="in two places"):
        Split.from_dict(twice)


def test_subsets_are_nested_and_of_the_size_asked_for():
    frames = load_sample()
    subsets = nested_subsets(frames, [10, 50, 385], seed=1)
    assert {size: len(index) for size, index in subsets.items()} == {10: 10, 50: 50, 385: 385}
    assert set(subsets[10]) < set(subsets[50]) < set(subsets[385])
    assert len(np.unique(frames.material_id[subsets[50]])) < 30
    assert subsets[50].tolist() != nested_subsets(frames, [50], seed=2)[50].tolist()
    with pytest.raises(DataError, match=r"a subset of 386 frames cannot be taken from 385"):
        nested_subsets(frames, [10, 386])
