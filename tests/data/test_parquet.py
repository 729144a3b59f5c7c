import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from data.made import crystals, frames_sets, same
from xclimb.data.label_keys import LabelKeys
from xclimb.data.parquet import frames_from_table, label_columns, to_parquet, to_table
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError
from xclimb.ingest import read


def back(table, **kwargs):
    return frames_from_table(table, label_columns(table.schema, **kwargs))


def two_functionals():
    """One table with PBE and r2SCAN labels; the r2SCAN ones are lower by 1 eV and have no stress for the second frame."""
    frames = crystals()
    plain = to_table(frames).replace_schema_metadata(None)
    table = plain.rename_columns(
        [f"pbe_{n}" if n in ("energy", "forces", "stress", "magmoms") else n for n in plain.column_names]
    )
    stress = plain["stress"].to_pylist()
    stress[1] = None
    return (
        table.append_column("r2scan_energy", pa.array(frames.energy - 1.0))
        .append_column("r2scan_forces", plain["forces"])
        .append_column("r2scan_stress", pa.array(stress))
        .append_column("source", pa.array(["a", None, "c"]))
        .append_column("rank", pa.array([1, None, 3]))
        .append_column("kpoints", pa.array([[1, 1, 1]] * 3))
    )


@settings(max_examples=25)
@given(frames=frames_sets())
def test_parquet_and_back(tmp_path_factory, frames):
    path = to_parquet(frames, tmp_path_factory.mktemp("tables") / "frames.parquet")
    table = pq.read_table(path)
    assert table.num_rows == len(frames)
    same(back(table), frames)


def test_labels_of_the_functional_asked_for():
    table = two_functionals()
    frames = back(table, functional="R2SCAN")
    np.testing.assert_array_equal(frames.energy, crystals().energy - 1.0)
    assert np.isnan(frames.stress[1]).all()
    assert np.isfinite(frames.stress[[0, 2]]).all()
    assert not frames.has("magmoms")
    assert frames.theory == LevelOfTheory("r2SCAN")
    assert back(table, functional="pbe").has("magmoms")
    assert back(table, keys=LabelKeys(energy="pbe_energy")).theory == LevelOfTheory("PBE")
    assert set(frames.extras) == {"source", "rank"}
    assert frames.extras["source"].tolist() == ["a", "", "c"]
    np.testing.assert_array_equal(frames.extras["rank"], [1, np.nan, 3])


def test_each_label_under_a_key_of_its_own():
    table = two_functionals()
    columns = [{"pbe_stress": "w", "r2scan_forces": "f"}.get(name, name) for name in table.column_names]
    table = table.rename_columns(columns)
    frames = back(table, keys=LabelKeys(energy="pbe_energy", forces="f", virial="w"))
    np.testing.assert_array_equal(frames.energy, crystals().energy)
    np.testing.assert_array_equal(frames.forces, crystals().forces)
    np.testing.assert_allclose(frames.stress, -crystals().stress / crystals().volumes[:, None, None])
    assert frames.extras.keys() == {"source", "rank"}


@pytest.mark.parametrize(
    ("kwargs", "error", "told"),
    [
        ({}, DataError, r"labels of PBE \(pbe_energy\), r2SCAN \(r2scan_energy\): say which"),
        ({"functional": "HSE"}, TheoryError, r"no labels of HSE06; it has PBE \(pbe_energy\), r2SCAN"),
        ({"keys": LabelKeys(energy="energie")}, DataError, "no frame has an energy under 'energie'; its labels are"),
        ({"keys": LabelKeys(stress="pressure")}, DataError, "no frame has a stress under 'pressure'; its labels are"),
    ],
)
def test_choosing_labels(kwargs, error, told):
    with pytest.raises(error, match=told):
        back(two_functionals(), **kwargs)


def test_structures_alone_need_no_choice(tmp_path):
    pq.write_table(two_functionals(), tmp_path / "both.parquet")
    frames = read(tmp_path / "both.parquet", labels="ignored")
    np.testing.assert_array_equal(frames.positions, crystals().positions)
    assert not frames.has("energy")


def test_one_functional_needs_no_choice():
    table = two_functionals().drop_columns(["r2scan_energy", "r2scan_forces", "r2scan_stress"])
    assert back(table).theory.functional == "PBE"


def test_energies_that_are_no_labels_become_extras():
    table = to_table(crystals()).append_column("formation_energy", pa.array([0.1, 0.2, 0.3]))
    frames = back(table)
    assert frames.extras["formation_energy"].tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(frames.energy, crystals().energy)


def test_nested_lists_small_types_and_missing_columns():
    frames = crystals()
    table = pa.table(
        {
            "numbers": pa.array([n.tolist() for n in np.split(frames.numbers, frames.offsets[1:-1])], pa.list_(pa.int8())),
            "cell": pa.array(frames.cells.tolist()),
            "positions": pa.array([p.tolist() for p in np.split(frames.positions, frames.offsets[1:-1])]),
            "frame_id": pa.array([5, 6, 7]),
        }
    )
    read = back(table)
    np.testing.assert_array_equal(read.positions, frames.positions)
    np.testing.assert_array_equal(read.cells, frames.cells)
    assert read.pbc.all()
    assert read.frame_id.tolist() == ["5", "6", "7"]
    assert read.material_id.tolist() == ["Na", "OCl", "NaOCl"]
    assert (
        frames_from_table(table.drop_columns("frame_id"), label_columns(table.schema), stem="a", first=4).frame_id[0] == "a#4"
    )


def test_slices_of_a_table():
    table = two_functionals()
    same(back(table.slice(1, 2), functional="r2SCAN"), back(table, functional="r2SCAN")[1:])


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("positions", [[0.0] * 3, [0.0] * 5, [0.0] * 9], "positions of frame f1 has 5 values, expected 6"),
        ("positions", [[0.0] * 3, None, [0.0] * 9], "positions of frame f1 has 0 values, expected 6"),
        ("cell", [[1.0] * 9, [1.0] * 9, [1.0] * 6], "cell of frame f2 has 6 values, expected 9"),
        ("forces", [[0.0], [0.0] * 6, [0.0] * 9], "forces of frame f0 has 1 values, expected 3"),
        ("natoms", [1, 2, 4], "frame f2 states natoms = 4 but has 3"),
        ("stress", [[0.0] * 5] * 3, "stress has 5 values a frame"),
        ("energy", ["a", "b", "c"], "column energy has type string"),
    ],
)
def test_lists_of_the_wrong_length(column, value, told):
    table = to_table(crystals())
    table = table.set_column(table.column_names.index(column), column, pa.array(value))
    with pytest.raises(DataError, match=told):
        back(table)


def test_missing_columns_are_named():
    with pytest.raises(DataError, match=r"no column\(s\) cell, positions"):
        label_columns(pa.schema([("numbers", pa.list_(pa.int8()))]))


def test_extras_that_cannot_be_written(tmp_path):
    frames = crystals().replace(extras={"axis": np.ones((3, 2))})
    with pytest.raises(DataError, match="extra column 'axis' cannot be written"):
        to_parquet(frames, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_program_are_recognised_by_their_names():
    frames = crystals()
    named = {"energy": "total_energy", "forces": "force", "stress": "dft_stress", "magmoms": "magnetic_moments"}
    table = to_table(frames).replace_schema_metadata(None)
    table = table.rename_columns([named.get(name, name) for name in table.column_names])
    table = table.append_column("free_energy", pa.array([0.0, 0.0, 0.0])).append_column("forces_max", pa.array([1.0, 1.0, 1.0]))
    found = back(table)
    same(found.replace(extras={}), frames.replace(extras={}).with_theory(LevelOfTheory()))
    assert "forces_max" in found.extras
    stated = back(table.rename_columns(["energy_r2scan" if name == "total_energy" else name for name in table.column_names]))
    assert stated.theory.functional == "r2SCAN"


def test_of_labels_that_contradict_each_other_none_is_read():
    frames = crystals()
    table = to_table(frames).replace_schema_metadata(None)
    table = table.rename_columns(["ref_energy" if name == "energy" else name for name in table.column_names])
    assert not back(table.append_column("total_energy", pa.array([0.0, 0.0, 0.0]))).has("energy")
