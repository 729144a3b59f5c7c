"""Splits of trajectories: blocks of frames in the order of the data, with gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.made import crystals
from xclimb.data.frame_blocks import correlated_frames, cut_blocks
from xclimb.data.frames import Frames
from xclimb.data.splits import Split, nested_subsets, propose_split, split_frames
from xclimb.errors import DataError, XclimbWarning

RATIOS = [(0.8, 0.1, 0.1), (0.5, 0.3, 0.2), (0.9, 0.1, 0.0), (0.5, 0.0, 0.5)]


def trajectories(sizes: list[int]) -> Frames:
    """Frames of one atom; series g has sizes[g] frames, material ids in turn as a file would mix them."""
    materials = [f"m{g}" for g, size in enumerate(sizes) for _ in range(size)]
    return crystals(sizes=[1] * sum(sizes), materials=materials, numbers=[1] * sum(sizes))


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    ratios=st.sampled_from(RATIOS),
    gap=st.one_of(st.none(), st.integers(0, 5)),
    seed=st.integers(0, 9),
)
def test_every_frame_has_one_place_and_no_two_parts_are_nearer_than_the_gap(sizes, ratios, gap, seed):
    frames = trajectories(sizes)
    mixed = np.random.default_rng(seed).permutation(len(frames))
    frames = frames[mixed]
    try:
        split = propose_split(frames, ratios, "frame", group="ids", gap=gap)
    except DataError:
        wanted = sum(ratio > 0 for ratio in ratios)
        assert max(sizes) < wanted + (gap or 3) * (wanted - 1)
        return
    parts = [split.train, split.val, split.test, split.left_out]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(frames)))
    for part, ratio in zip(parts, ratios, strict=False):
        assert (len(part) > 0) == (ratio > 0)
    place = np.empty(len(frames), dtype=np.int64)
    for k, part in enumerate(parts):
        place[part] = k
    for name in set(frames.material_id.tolist()):
        series = place[frames.material_id == name]
        kept = np.flatnonzero(series != 3)
        assert (np.diff(series[kept]) >= 0).all()  # in time: train, validation, test
        for cut in np.flatnonzero(np.diff(series[kept])):
            assert kept[cut + 1] - kept[cut] - 1 >= (1 if gap is None else gap)


def test_one_trajectory_is_split_with_a_loud_note(tmp_path):
    frames = trajectories([100])
    with pytest.warns(XclimbWarning) as told:
        split = split_frames(frames, (0.8, 0.1, 0.1))
    said = [str(warning.message) for warning in told]
    assert "1 material cannot be split into 3 parts without leaks, so blocks of frames were split instead" in said[0].lower()
    assert f"{len(split.left_out)} frames between the blocks left out" in said[1]
    assert (split.by, len(split.val) >= 9, len(split.test) >= 9) == ("frame", True, True)
    assert split.train.max() < split.val.min() <= split.val.max() < split.test.min()
    split.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert again.to_dict() == split.to_dict()
    assert [len(part) for part in again.apply(frames[::-1])] == [len(split.train), len(split.val), len(split.test)]
    with pytest.raises(DataError, match=r"1 material cannot be split into 3 parts without leaks.*by='frame'"):
        split_frames(frames, by="material")


def test_the_gap_is_as_long_as_the_energies_are_correlated():
    step = np.random.default_rng(0).normal(size=4000)
    slow = np.convolve(step, np.ones(40), "valid")
    assert correlated_frames(step) == 1
    assert 20 < correlated_frames(slow) < 35
    assert correlated_frames(slow[:100]) == 5  # a twentieth at most
    assert correlated_frames(np.full(100, np.nan)) == 5
    part, _ = cut_blocks(slow, np.zeros(len(slow), dtype=np.int64), (0.8, 0.2, 0.0), None)
    assert np.count_nonzero(part == -1) == correlated_frames(slow)


def test_subsets_of_a_trajectory_are_nested():
    subsets = nested_subsets(trajectories([50]), [5, 20], by="frame")
    assert set(subsets[5]) < set(subsets[20])
    assert subsets[20].max() > 25  # of all of it, not of its beginning
