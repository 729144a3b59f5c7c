"""JSON of the Materials Project, MatPES and pymatgen: values, schemas, what is rejected, broken files."""

import gzip
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from xclimb.errors import DataError, TheoryError
from xclimb.formats.materials_project.spans import find_records, iter_chunks, record_depth
from xclimb.ingest import ingest, read

SKEW = [[4.0, 0.1, 0.0], [0.3, 4.2, 0.0], [0.0, -0.2, 5.0]]


def structure(n=2, **site_properties):
    species = ["Li", "O", "Fe", "O", "Li"][:n]
    places = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.9, 0.1, 0.7], [0.2, 0.7, 0.9], [0.6, 0.9, 0.1]])[:n]
    return Structure(Lattice(SKEW), species, places, site_properties=site_properties)


def record(n=2, **changes):
    """One frame of MP-r2SCAN; stress in kbar, VASP's sign."""
    made = {
        "structure": structure(n).as_dict() | {"charge": changes.pop("charge", 0)}, "uncorrected_total_energy": -5.5 * n,
        "energy_per_atom": -5.6, "force": [[0.1 * a, -0.2, 0.3] for a in range(n)],
        "stress": [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]], "magmom": None, "bandgap": 1.5, "mp_id": "mp-1",
    }  # fmt: skip
    return {name: value for name, value in (made | changes).items() if value != "left out"}


def nested(*records):
    """{material: {frame: record}}, two frames a material."""
    data = {}
    for s, one in enumerate(records):
        data.setdefault(f"mp-{s // 2}", {})[f"mp-{s // 2}-0-{s % 2}"] = one | {"mp_id": f"mp-{s // 2}"}
    return data


def write(path, data, **how):
    text = json.dumps(data, **how).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "no_suffix"])
@pytest.mark.parametrize("indent", [None, 1])
def test_mp_r2scan(tmp_path, name, indent):
    data = nested(record(2), record(3, magmom=[0.5, None, 4.0], charge=1), record(1, force=None, stress=None))
    frames = read(write(tmp_path / name, data, indent=indent), "r2SCAN")
    assert frames.frame_id.tolist() == ["mp-0-0-0", "mp-0-0-1", "mp-1-0-0"]
    assert frames.material_id.tolist() == ["mp-0", "mp-0", "mp-1"]
    assert frames.numbers.tolist() == [3, 8, 3, 8, 26, 3]
    assert frames.energy.tolist() == [-11.0, -16.5, -5.5]
    np.testing.assert_allclose(frames.positions[2:5], structure(3).cart_coords, atol=1e-12)
    np.testing.assert_allclose(frames.cells[1], SKEW)
    np.testing.assert_array_equal(frames.magmoms, [np.nan, np.nan, 0.5, np.nan, 4.0, np.nan])
    # kbar in VASP's sign: minus a tenth in GPa, over 160.21766208 in eV/Å^3
    np.testing.assert_allclose(frames.stress[0], -0.1 * np.array(record()["stress"]) / 160.21766208, rtol=1e-12)
    assert np.isnan(frames.stress[2]).all()
    assert np.isnan(frames.forces[-1]).all()
    assert (frames.theory.functional, frames.theory.code, frames.theory.corrections) == ("r2SCAN", "VASP", None)
    np.testing.assert_array_equal(frames.extras["charge"], [np.nan, 1, np.nan])
    assert frames.extras["bandgap"].tolist() == [1.5, 1.5, 1.5]


def test_the_choice_of_the_energy_is_in_the_level_of_theory(tmp_path):
    path = write(tmp_path / "mptrj.json", nested(record(corrected_total_energy=-12.0), record(corrected_total_energy=-13.0)))
    assert read(path).energy.tolist() == [-11.0, -11.0]
    corrected = read(path, "GGA/GGA+U", energy="corrected")
    assert corrected.energy.tolist() == [-12.0, -13.0]
    assert corrected.theory.corrections == "MP2020"
    with pytest.raises(TheoryError, match="corrections"):
        corrected.concatenate([read(path, "GGA/GGA+U"), corrected])
    write(path, nested(record(), record()))
    with pytest.raises(DataError, match="no corrected energy"):
        read(path, energy="corrected")
    with pytest.raises(DataError, match="uncorrected or corrected"):
        read(path, energy="e_0")


def matpes(**changes):
    made = record() | {"energy": -9.0, "forces": [[0.1, 0.2, 0.3]] * 2, "stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    made |= {"functional": "r2SCAN", "matpes_id": "matpes-1", "bader_magmoms": [0.1, 0.2], "cohesive_energy_per_atom": -3.0}
    drop = ("uncorrected_total_energy", "force", "magmom", "mp_id", "energy_per_atom")
    return {name: value for name, value in (made | changes).items() if name not in drop}


def check_matpes(frames):
    assert frames.theory.functional == "r2SCAN"
    assert frames.frame_id.tolist() == ["a", "b"]
    assert frames.energy.tolist() == [-9.0, -9.0]
    expected = -0.1 / 160.21766208 * np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    np.testing.assert_allclose(frames.stress[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(frames.magmoms, [0.1, 0.2, 0.1, 0.2])
    assert frames.extras["cohesive_energy_per_atom"].tolist() == [-3.0, -3.0]


def test_matpes_json_and_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    many = json.loads(json.dumps([matpes(matpes_id="a"), matpes(matpes_id="b")]).replace('"properties": {}, ', ""))
    check_matpes(read(write(tmp_path / "m.json.gz", many)))
    pq.write_table(pa.Table.from_pylist(many), tmp_path / "m.parquet")
    check_matpes(read(tmp_path / "m.parquet"))
    with pytest.raises(TheoryError, match="states r2SCAN but PBE was given"):
        read(tmp_path / "m.json.gz", "PBE")
    write(tmp_path / "m.json.gz", [*many, matpes(matpes_id="c", functional="PBE")])
    with pytest.raises(TheoryError, match="r2SCAN 1 file, PBE 1; read one with only='r2SCAN', or make a store"):
        read(tmp_path / "m.json.gz")


def test_pymatgen_entries_and_structures(tmp_path):
    from monty.serialization import dumpfn
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    entry = ComputedStructureEntry(
        structure(), -8.0, correction=-0.5, entry_id="mp-7", parameters={"run_type": "GGA+U", "hubbards": {"Fe": 5.3, "O": 0}}
    )
    dumpfn([entry, entry], tmp_path / "entries.json.gz")
    with pytest.warns(UserWarning, match="stood for another frame"):
        frames = read(tmp_path / "entries.json.gz")
    assert frames.energy.tolist() == [-8.0, -8.0]
    assert (frames.theory.functional, frames.theory.hubbard_u) == ("PBE+U", {"Fe": 5.3})
    with pytest.warns(UserWarning, match="stood for another frame"):
        assert read(tmp_path / "entries.json.gz", energy="corrected").energy.tolist() == [-8.5, -8.5]
    one = structure(magmom=[1.0, 2.0], forces=[[0.1, 0.2, 0.3]] * 2)
    one.properties["energy"] = -3.0
    for data in ([one, one], one):
        dumpfn(data, tmp_path / "structures.json")
        frames = read(tmp_path / "structures.json")
        assert frames.energy[0] == -3.0
        np.testing.assert_array_equal(frames.magmoms[:2], [1.0, 2.0])
        np.testing.assert_array_equal(frames.forces[0], [0.1, 0.2, 0.3])


BAD = {
    "unusable label": [{"force": [[0.0, 0.0, 0.0]]}, {"force": "strong"}, {"stress": [1.0, 2.0]}, {"magmom": [1.0]}],
    "forces are incomplete": [{"force": [[0.0, float("nan"), 0.0]] * 2}],
    "energy is not finite": [{"uncorrected_total_energy": float("inf")}],
    "force too large": [{"force": [[1e6, 0.0, 0.0]] * 2}],
    "no structure": [{"structure": "left out"}, {"structure": 7}],
    "unusable structure": [{"structure": {"sites": []}}, {"structure": {"lattice": {}, "sites": [{}]}}],
    "unknown element": [{"structure": json.loads(json.dumps(record()["structure"]).replace("Li", "Qq"))}],
}


@pytest.mark.parametrize(("reason", "changes"), [(reason, one) for reason, many in BAD.items() for one in many])
def test_bad_records_are_named_and_the_others_kept(tmp_path, reason, changes):
    path = write(tmp_path / "a.json", nested(record(), record(**changes), record(3)))
    summary = ingest(path, tmp_path / "store", "r2SCAN")
    assert (summary.n_in, summary.n_out, summary.reasons) == (3, 2, {reason: 1})
    assert "mp-0-0-1,1," in summary.rejects_path.read_text()


def test_a_wrong_type_is_no_number(tmp_path):
    text = json.dumps(nested(record(), record())).replace(
        '"uncorrected_total_energy": -11.0', '"uncorrected_total_energy": "-11"', 1
    )
    (tmp_path / "a.json").write_text(text)
    assert ingest(tmp_path / "a.json", tmp_path / "store", "r2SCAN").reasons == {"unusable label": 1}


def test_a_file_that_breaks_off_keeps_what_stands_before(tmp_path):
    path = write(tmp_path / "a.json", nested(*[record()] * 6))
    text = path.read_bytes()
    path.write_bytes(text[: int(0.7 * len(text))])
    summary = ingest(path, tmp_path / "store", "r2SCAN")
    assert (summary.n_in, summary.n_out) == (5, 4)
    assert "breaks off after record 4" in summary.rejects_path.read_text()
    with pytest.raises(DataError, match=r"a.json breaks off after record 4"):
        read(path, "r2SCAN")
    rng = np.random.default_rng(0)
    many = nested(*[record(5, force=rng.normal(size=(5, 3)).tolist()) for _ in range(60)])
    path.write_bytes(gzip.compress(json.dumps(many).encode())[:-400])
    summary = ingest(path, tmp_path / "other", "r2SCAN", checks={"duplicate": "off"})
    assert summary.reasons == {"file cannot be read": 1}
    assert summary.n_out > 50


def test_strings_with_braces_and_quotes_do_not_confuse(tmp_path):
    odd = 'a "quoted" } { \\ key'
    data = {odd: {odd + "-1": record(note=odd), odd + "-2": record(note="\\")}}
    frames = read(write(tmp_path / "a.json", data), "r2SCAN")
    assert frames.extras["note"].tolist() == [odd, "\\"]


@pytest.mark.parametrize("block", [1, 7, 100, 5000])
def test_records_do_not_depend_on_the_blocks_they_are_read_in(tmp_path, block):
    data = nested(*[record(n) for n in (1, 2, 3, 4, 5)])
    path = write(tmp_path / "a.json", data)
    depth, kind = record_depth(path.read_bytes())
    assert (depth, kind) == (3, "entry")
    with path.open("rb") as file:
        chunks = list(iter_chunks(file, depth, "a.json", block))
    texts = [chunk.text[begin:end] for chunk in chunks for begin, end in chunk.spans]
    assert [json.loads(text) for text in texts] == [
        json.loads(json.dumps(one)) for frames in data.values() for one in frames.values()
    ]
    assert [chunk.first for chunk in chunks] == np.cumsum([0, *(len(chunk.spans) for chunk in chunks[:-1])]).tolist()


def test_spans_of_an_empty_text():
    found = find_records(b"", 3, 2)
    assert (len(found.spans), found.outer, found.level, found.low) == (0, None, 2, None)
