"""Folders at several levels of theory: what is there, one of them, a store of each."""

import json

import pytest

import xclimb
from ingest.test_mp_json import matpes, write
from ingest.test_vasp import run
from xclimb.cli.shell import as_options
from xclimb.data.store import open_store, read_manifest
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest import ingest, ingest_by_theory, read
from xclimb.ingest.levels import folder_name

PBESOL, R2SCAN = '<i name="GGA">PS</i>', '<i name="GGA">PS</i><i name="METAGGA">R2scan</i>'


@pytest.fixture
def workflow(tmp_path):
    """Two pre-relaxations and a static calculation, as every r2SCAN workflow leaves them."""
    for n, (name, incar) in enumerate([("a", PBESOL), ("b", PBESOL), ("c", R2SCAN)]):
        run(tmp_path / "flow" / name, steps=2, incar=incar, force=f"0.{n + 1}")
    return tmp_path / "flow"


def test_the_error_lists_what_is_there_and_the_ways_out(workflow, tmp_path):
    for functional in (None, "r2SCAN"):
        with pytest.raises(
            TheoryError, match="these 3 files hold several levels of theory: PBEsol 2 files, r2SCAN 1; "
        ) as caught:
            ingest(workflow, tmp_path / "store", functional)
        assert "keep one with --only PBEsol, or make a store of each with --by-theory" in as_options(str(caught.value))
        assert not (tmp_path / "store").exists()
        with pytest.raises(
            TheoryError, match=r"flow holds several levels of theory: PBEsol 2 files, r2SCAN 1; read one with only='PBEsol'"
        ):
            read(workflow, functional)


def test_one_of_the_levels(workflow, tmp_path):
    summary = ingest(workflow, tmp_path / "store", only="r2scan")
    assert (summary.n_in, summary.n_out, summary.others) == (2, 2, {"PBEsol": 2})
    assert read_manifest(tmp_path / "store")["provenance"]["other_levels"] == {"PBEsol": 2}
    assert xclimb.read(workflow, only="r2SCAN").theory.functional == "r2SCAN"
    with pytest.raises(DataError, match="no file is at HSE06: there are PBEsol 2 files, r2SCAN 1"):
        ingest(workflow, tmp_path / "other", only="HSE06")
    with pytest.raises(DataError, match="no frames that can be used at HSE06: there are PBEsol 2 files, r2SCAN 1"):
        read(workflow, only="HSE06")


def test_a_store_of_each_level(workflow, tmp_path):
    run(workflow / "d", incar=R2SCAN + '<i name="IVDW">12</i>')
    done = ingest_by_theory(workflow, tmp_path / "out")
    assert {level: summary.n_out for level, summary in done.items()} == {"PBEsol": 4, "r2SCAN": 2, "r2SCAN-D3(BJ)": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["PBEsol", "r2SCAN", "r2SCAN-D3-BJ"]
    assert open_store(tmp_path / "out" / "r2SCAN-D3-BJ").theory.dispersion == "D3(BJ)"
    assert read(workflow, only="r2SCAN-D3(BJ)").theory.dispersion == "D3(BJ)"
    with pytest.raises(DataError, match="is a store itself"):
        ingest_by_theory(workflow, tmp_path / "out" / "r2SCAN")


def test_a_level_without_a_usable_frame_stops_no_other(workflow, tmp_path):
    run(workflow / "c", incar=R2SCAN, electronic=(3, 3))
    with pytest.warns(XclimbWarning, match="no store of r2SCAN: none of the 2 frames"):
        assert list(ingest_by_theory(workflow, tmp_path / "out")) == ["PBEsol"]


def test_pbe_beside_pbe_with_u(tmp_path):
    hubbard = '<i type="logical" name="LDAU"> T  </i><v name="LDAUU"> {} 0.0</v>'
    run(tmp_path / "flow" / "a")
    run(tmp_path / "flow" / "b", incar=hubbard.format(5.3), force="0.2")
    with pytest.raises(TheoryError, match=r"PBE 1 file, PBE\+U 1.*functional='GGA/GGA\+U'"):
        ingest(tmp_path / "flow", tmp_path / "store")
    assert ingest(tmp_path / "flow", tmp_path / "store", "GGA/GGA+U").theory.functional == "GGA/GGA+U"
    run(tmp_path / "flow" / "c", incar=R2SCAN, force="0.3")
    summary = ingest(tmp_path / "flow", tmp_path / "family", only="GGA/GGA+U")
    assert (summary.n_out, summary.theory.functional, summary.others) == (4, "GGA/GGA+U", {"r2SCAN": 1})
    done = ingest_by_theory(tmp_path / "flow", tmp_path / "out", "GGA/GGA+U")
    assert {level: made.n_out for level, made in done.items()} == {"GGA/GGA+U": 4, "r2SCAN": 2}
    run(tmp_path / "two" / "a", incar=hubbard.format(5.3))
    run(tmp_path / "two" / "b", incar=hubbard.format(4.0), force="0.2")
    with pytest.raises(TheoryError, match=r"hubbard_u.*functional='GGA/GGA\+U'"):
        ingest(tmp_path / "two", tmp_path / "third")


def test_levels_within_a_file(tmp_path):
    many = [matpes(matpes_id="a"), matpes(matpes_id="b", functional="PBE"), matpes(matpes_id="c", functional="PBE")]
    path = write(tmp_path / "m.json", many)
    assert read(path, only="PBE").frame_id.tolist() == ["b", "c"]
    summary = ingest(path, tmp_path / "store", only="r2SCAN")
    assert (summary.n_out, summary.others) == (1, {"PBE": 1})
    assert {level: made.n_out for level, made in ingest_by_theory(path, tmp_path / "out").items()} == {"r2SCAN": 1, "PBE": 2}
    with pytest.raises(TheoryError, match="r2SCAN 1 file, PBE 1"):
        ingest(path, tmp_path / "third")
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["frames"] == 1


def test_names_of_folders_fit_every_file_system():
    levels = ["PBE-D3(BJ)", "GGA/GGA+U", "hybrid:0.1", "r2SCAN", "../x", "unknown"]
    assert list(map(folder_name, levels)) == ["PBE-D3-BJ", "GGA-GGA+U", "hybrid-0.1", "r2SCAN", "x", "unknown"]
