import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from data.made import crystals, frames_sets, same
from xclimb.data.frames import Frames
from xclimb.data.store import iter_store, open_store, read_manifest
from xclimb.data.store_writer import StoreWriter, write_store
from xclimb.errors import DataError, TheoryError


@settings(max_examples=25)
@given(frames=frames_sets())
def test_store_and_back(tmp_path_factory, frames):
    path = write_store(frames, tmp_path_factory.mktemp("stores") / "store", {"from": "a test"})
    same(open_store(path, verify=True), frames)
    manifest = read_manifest(path)
    assert (manifest["frames"], manifest["atoms"]) == (len(frames), frames.total_atoms)
    assert manifest["provenance"] == {"from": "a test"}


def test_columns_are_views_of_the_file(tmp_path):
    frames = open_store(write_store(crystals(copies=50), tmp_path / "store"))
    for name in ("numbers", "positions", "forces", "magmoms", "cells", "stress", "energy", "pbc"):
        column = getattr(frames, name)
        assert not column.flags.owndata, name
        assert not column.flags.writeable, name
    assert frames[np.arange(3)].positions.flags.writeable


def test_shards_are_joined_and_given_one_by_one(tmp_path):
    frames = crystals(copies=4)
    with StoreWriter(tmp_path / "store", shard_atoms=6) as writer:
        for s in range(0, len(frames), 3):
            writer.append(frames[s : s + 3])
    assert [len(part) for part in iter_store(tmp_path / "store")] == [3, 3, 3, 3]
    opened = open_store(tmp_path / "store")
    same(opened, frames)
    rng = np.random.default_rng(0)
    for key in (rng.integers(-12, 12, 20), slice(2, 11, 3), rng.random(12) < 0.4, 7, [], np.arange(12)):
        same(opened[key], frames[key])
        assert type(opened[key].positions) is np.ndarray
    assert opened.checksum() == frames.checksum()
    np.testing.assert_array_equal(opened.energy_per_atom, frames.energy_per_atom)
    np.testing.assert_array_equal(opened.material_id == frames.material_id[0], frames.material_id == frames.material_id[0])
    assert opened.composition().sum() == frames.total_atoms
    with pytest.raises(IndexError, match="of 12"):
        opened[[12]]


def test_a_shard_is_not_read_to_fetch_rows_of_another(tmp_path):
    frames = crystals(copies=4)
    with StoreWriter(tmp_path / "store", shard_atoms=6) as writer:
        for s in range(0, len(frames), 3):
            writer.append(frames[s : s + 3])
    opened = open_store(tmp_path / "store")
    for piece in opened.positions.pieces:
        assert not piece.flags.owndata
        assert not piece.flags.writeable
    assert opened.extras == {}
    with StoreWriter(tmp_path / "store", overwrite=True, shard_atoms=6) as writer:
        writer.append(crystals().replace(extras={"kind": np.array(["a", "b", "c"]), "x": np.arange(3.0)}))
        writer.append(crystals().replace(extras={"x": np.arange(3.0)}))
    extras = open_store(tmp_path / "store").extras
    assert extras["kind"].tolist() == ["a", "b", "c", "", "", ""]
    assert extras["x"][np.array([5, 0, 1])].tolist() == [2.0, 0.0, 1.0]


def test_extras_that_some_pieces_lack(tmp_path):
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(crystals().replace(extras={"kind": np.array(["a", "b", "c"]), "axis": np.ones((3, 2))}))
        writer.append(crystals())
    extras = open_store(tmp_path / "store").extras
    assert extras["kind"].tolist() == ["a", "b", "c", "", "", ""]
    np.testing.assert_array_equal(extras["axis"], np.repeat([[1.0, 1.0], [np.nan, np.nan]], 3, axis=0))


def test_a_store_that_an_older_xclimb_wrote():
    """Written with schema 1, where text was kept as Arrow keeps it."""
    path = Path(__file__).parent / "store_schema1"
    assert read_manifest(path)["schema"] == 1
    extras = {"kind": np.array(["a", "bc", "d"]), "axis": np.arange(6.0).reshape(3, 2), "count": np.array([1, 2, 3])}
    named = np.array(["Na", "ClO", "ClNaO"])  # formulas were alphabetical then
    same(open_store(path, verify=True), crystals().replace(extras=extras, material_id=named))


def test_an_empty_store(tmp_path):
    with StoreWriter(tmp_path / "store"):
        pass
    same(open_store(tmp_path / "store", verify=True), Frames.empty())


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    write_store(crystals(), tmp_path / "store")
    with StoreWriter(tmp_path / "other") as writer:
        writer.append(crystals())
        with pytest.raises(TheoryError, match="the frames of a store"):
            writer.append(crystals(functional="PBE"))

    def stopped():
        with StoreWriter(tmp_path / "store", overwrite=True) as writer:
            writer.append(crystals(copies=2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    same(open_store(tmp_path / "store"), crystals())
    assert {path.name for path in tmp_path.iterdir()} == {"store", "other"}


def test_existing_folders_are_safe(tmp_path):
    write_store(crystals(), tmp_path / "store")
    with pytest.raises(DataError, match=r"is a store already.*overwrite"):
        write_store(crystals(copies=2), tmp_path / "store")
    write_store(crystals(copies=2), tmp_path / "store", overwrite=True)
    assert len(open_store(tmp_path / "store")) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match="is no store"):
        write_store(crystals(), tmp_path / "mine", overwrite=True)
    (tmp_path / "new").mkdir()
    write_store(crystals(), tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "mine", "new"}


def truncated(path):
    file = path / "atoms-00000.arrow"
    file.write_bytes(file.read_bytes()[:-100])


def one_bit_flipped(path):
    file = path / "atoms-00000.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def scrambled(path):
    file = path / "systems-00000.arrow"
    file.write_bytes(b"\0" * file.stat().st_size)


def changed_manifest(**fields):
    def change(path):
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncated, r"atoms-00000.arrow has \d+ bytes, the manifest says \d+"),
        (one_bit_flipped, r"atoms-00000.arrow does not have the checksum"),
        (scrambled, "systems-00000.arrow"),
        (lambda path: (path / "atoms-00000.arrow").unlink(), "atoms-00000.arrow is missing"),
        (lambda path: (path / "manifest.json").write_text("{"), "no manifest of an xclimb store"),
        (lambda path: (path / "manifest.json").write_text("[]"), "no manifest of an xclimb store"),
        (changed_manifest(schema=99), "schema 99.*upgrade xclimb"),
    ],
)
def test_damage_is_told(tmp_path, damage, told):
    path = write_store(crystals(), tmp_path / "store")
    damage(path)
    with pytest.raises(DataError, match=told):
        open_store(path, verify=True)


def test_a_file_that_is_no_arrow_file_is_told_without_checksums(tmp_path):
    path = write_store(crystals(), tmp_path / "store")
    scrambled(path)
    with pytest.raises(DataError, match="damaged Arrow file"):
        open_store(path, verify=False)


def test_no_store(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is no store.*manifest.json"):
        open_store(tmp_path)


def test_extras_that_cannot_be_stored(tmp_path):
    frames = crystals().replace(extras={"when": np.zeros(3, dtype="datetime64[s]")})
    with pytest.raises(DataError, match="extra column 'when'"):
        write_store(frames, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
