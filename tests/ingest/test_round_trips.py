"""Every format there and back: sizes, missing labels, partial pbc, moments, charges, names that look like numbers."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from data.made import NAMES, crystals, frames_sets, same
from xclimb.data.export import export
from xclimb.data.frames import Frames
from xclimb.data.store import open_store
from xclimb.data.store_writer import write_store
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError
from xclimb.ingest import ingest, read
from xclimb.units import GPA_PER_EV_A3

TRICKY = st.sampled_from(["019", "1e5", "T", "nan", "a b", 'say "x"', "back\\slash", "_JSON 1", "x=1", "[1]", "µ'{", "mp-1"])


@st.composite
def sound(draw):
    """Frames that the audit lets pass, with names that formats may mistake for something else."""
    frames = draw(frames_sets(max_frames=4))
    assume(len(frames))
    place = np.arange(frames.total_atoms) - np.repeat(frames.offsets[:-1], frames.n_atoms)
    names = draw(st.lists(TRICKY | NAMES, min_size=len(frames), max_size=len(frames), unique=True))
    magmoms = frames.magmoms / 5
    magmoms[draw(st.lists(st.integers(0, frames.total_atoms - 1), max_size=2))] = np.nan  # known for some atoms only
    return frames.replace(
        positions=frames.positions / 200 + 1.9 * place[:, None] * [1, 0, 0],
        stress=frames.stress / 20,
        magmoms=magmoms,
        frame_id=np.array([name.strip() or "x" for name in names], dtype=np.str_),
        material_id=np.array([name.strip() or "x" for name in frames.material_id.tolist()], dtype=np.str_),
    )


def unique(frames):
    assume(len(set(frames.frame_id.tolist())) == len(frames))
    return frames


@settings(max_examples=15)
@pytest.mark.parametrize("suffix", ["extxyz", "db", "aselmdb", "parquet"])
@given(frames=sound().map(unique))
def test_export_and_back(tmp_path_factory, suffix, frames):
    path = export(frames, tmp_path_factory.mktemp("out") / f"frames.{suffix}")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    same(read(path, labels="optional"), frames)


@settings(max_examples=10)
@given(frames=sound().map(unique))
def test_store_and_back_by_ingest(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("stores")
    write_store(frames, folder / "a")
    summary = ingest(folder / "a", folder / "b", checks={"element": "off"})
    assert summary.n_out == len(frames)
    same(open_store(folder / "b", verify=True), frames)
    same(read(folder / "a"), frames)


def record(frames, s):
    """A frame as the JSON of the Materials Project has it."""
    rows = slice(frames.offsets[s], frames.offsets[s + 1])
    lattice = Lattice(frames.cells[s], pbc=tuple(map(bool, frames.pbc[s])))
    structure = Structure(lattice, frames.numbers[rows], frames.positions[rows], coords_are_cartesian=True).as_dict()
    structure |= {name: int(values[s]) for name, values in frames.extras.items()}
    labels = {
        "uncorrected_total_energy": frames.energy[s],
        "force": frames.forces[rows],
        "stress": -10 * GPA_PER_EV_A3 * frames.stress[s],
        "magmom": frames.magmoms[rows],
    }
    labels = {name: None if np.isnan(value).all() else np.asarray(value).tolist() for name, value in labels.items()}
    functional = {"functional": frames.theory.functional} if frames.theory.functional else {}
    return {"structure": structure, "mp_id": str(frames.material_id[s]), **labels, **functional}


@settings(max_examples=10)
@given(frames=sound().map(unique))
def test_json_of_the_materials_project(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("json") / "records.json"
    charged = {name: values for name, values in frames.extras.items() if name == "charge"}
    frames = frames.replace(
        extras=charged,
        theory=LevelOfTheory(frames.theory.functional, code="VASP"),
        material_id=np.array(["mp-1"] * len(frames)),
    )
    records = {"mp-1": {name: record(frames, s) for s, name in enumerate(frames.frame_id.tolist())}}
    path.write_text(json.dumps(records).replace("NaN", "null"))
    back = read(path, labels="optional")
    for name in ("numbers", "pbc", "material_id", "frame_id"):
        np.testing.assert_array_equal(getattr(back, name), getattr(frames, name), err_msg=name)
    for name in ("positions", "cells", "energy", "forces", "stress", "magmoms"):
        np.testing.assert_allclose(getattr(back, name), getattr(frames, name), rtol=1e-12, atol=1e-13, err_msg=name)
    assert back.theory == frames.theory
    charges = frames.extras.get("charge", np.zeros(len(frames)))
    np.testing.assert_array_equal(np.nan_to_num(back.extras.get("charge", np.zeros(len(frames)))), charges)


def test_parquet_has_lists_that_others_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    frames = crystals()
    stress = frames.stress.copy()
    stress[1] = np.nan
    table = pq.read_table(export(frames.replace(stress=stress), tmp_path / "frames.parquet"))
    kinds = {field.name: field.type for field in table.schema}
    assert kinds["positions"] == kinds["forces"] == kinds["cell"] == kinds["stress"] == pa.list_(pa.list_(pa.float64()))
    assert kinds["numbers"] == pa.list_(pa.int32())
    assert kinds["frame_id"] == pa.string()
    row = table.slice(1, 1).to_pylist()[0]
    assert row["stress"] is None
    assert row["positions"] == frames.positions[1:3].tolist()


def test_what_cannot_be_exported_is_said(tmp_path):
    frames = crystals()
    with pytest.raises(DataError, match=r"no format to export to: give extxyz, db, aselmdb, parquet"):
        export(frames, tmp_path / "a.cif")
    with pytest.raises(DataError, match="the set has no frames"):
        export(Frames.empty(), tmp_path / "a.db")
    with pytest.raises(DataError, match="'q' cannot be exported"):
        export(frames.replace(extras={"q": np.zeros((3, 2))}), tmp_path / "a.extxyz")
    export(frames, tmp_path / "a.extxyz")
    with pytest.raises(ConfigError, match="exists already"):
        export(frames[:1], tmp_path / "a.extxyz")
    export(write_store(frames[:1], tmp_path / "store"), tmp_path / "a.extxyz", overwrite=True)
    assert len(read(tmp_path / "a.extxyz")) == 1


def test_ase_reads_the_labels_of_an_exported_file(tmp_path):
    from ase.io import read as ase_read

    frames = crystals()
    for name in ("a.extxyz", "a.db"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            many = ase_read(export(frames, tmp_path / name), ":")
        assert [atoms.get_potential_energy() for atoms in many] == frames.energy.tolist()
        np.testing.assert_array_equal(np.concatenate([atoms.get_forces() for atoms in many]), frames.forces)
        np.testing.assert_array_equal(many[0].get_stress(voigt=False), frames.stress[0])
