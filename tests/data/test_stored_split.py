import json
from functools import partial

import numpy as np
import pytest

import xclimb
from data.made import crystals
from xclimb.data import stored_split
from xclimb.data.store_writer import write_store
from xclimb.data.stored_split import named_part
from xclimb.errors import DataError
from xclimb.ingest import ingest, read

# the same three crystals again and again, which only their ids tell apart: they are split by ids
MANY = crystals(copies=40, materials=[f"m{n // 3}" for n in range(120)])
split_store = partial(stored_split.split_store, group="ids")


@pytest.fixture
def store(tmp_path):
    return write_store(MANY, tmp_path / "store")


def test_parts_are_data(store):
    found = split_store(store, (8, 1, 1), (10, 40), seed=3)
    parts = {name: xclimb.open(f"{store}:{name}") for name in ("train", "val", "test", "train-10", "train-40")}
    assert [len(parts[name]) for name in ("train", "val", "test", "train-10", "train-40")] == [96, 12, 12, 10, 40]
    materials = {name: set(part.material_id.tolist()) for name, part in parts.items()}
    assert (
        not materials["train"] & materials["val"]
        | materials["train"] & materials["test"]
        | materials["val"] & materials["test"]
    )
    ids = {name: set(part.frame_id.tolist()) for name, part in parts.items()}
    assert ids["train"] | ids["val"] | ids["test"] == set(MANY.frame_id.tolist())
    assert ids["train-10"] < ids["train-40"] < ids["train"]
    assert found.materials == {name: len(those) for name, those in materials.items()}
    for name, part in parts.items():  # in the order of the store, labels of their own
        rows = np.flatnonzero(np.isin(MANY.frame_id, list(ids[name])))
        np.testing.assert_array_equal(part.forces, MANY[rows].forces)
    assert read(f"{store}:val", "R2SCAN").frame_id.tolist() == parts["val"].frame_id.tolist()


def test_a_split_is_the_same_again_and_is_not_lost_by_mistake(store):
    split_store(store, subsets=[5])
    before = json.loads((store / "split.json").read_text())
    with pytest.raises(DataError, match="is split already"):
        split_store(store, seed=1)
    split_store(store, subsets=[5], overwrite=True)
    assert json.loads((store / "split.json").read_text()) == before
    assert [before["seed"], before["by"], before["ratios"], len(before["subsets"]["5"])] == [0, "material", [0.8, 0.1, 0.1], 5]


def test_two_shares_leave_no_test_part(store):
    assert set(split_store(store, (9, 1)).parts) == {"train", "val"}
    with pytest.raises(DataError, match=r"has no part 'test': its split has train, val"):
        xclimb.open(f"{store}:test")


def test_what_is_wrong_is_said(store, tmp_path):
    with pytest.raises(DataError, match="has no parts yet: make them with xclimb split"):
        xclimb.open(f"{store}:train")
    with pytest.raises(DataError, match=r"ratios are 8:-1:1"):
        split_store(store, (8, -1, 1))
    with pytest.raises(DataError, match="a subset of 1000 frames cannot be taken"):
        split_store(store, subsets=[1000])
    assert not (store / "split.json").exists()
    with pytest.raises(DataError, match="does not exist"):
        read(f"{tmp_path / 'elsewhere'}:train")
    assert named_part(store) is None


def test_a_store_that_grew_has_to_be_split_again(store, tmp_path):
    split_store(store)
    more = write_store(crystals(sizes=(4,)).replace(frame_id=np.array(["new"])), tmp_path / "more")
    ingest(more, store, append=True, checks={"duplicate": "off"})
    with pytest.raises(DataError, match="has no parts yet"):
        xclimb.open(f"{store}:train")
