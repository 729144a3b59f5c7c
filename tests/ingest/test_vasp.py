"""VASP runs: small made-up ones always; the two real ones where they are at hand, against pymatgen's own numbers."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from xclimb.errors import DataError, TheoryError
from xclimb.ingest import ingest, read

RUNS = Path(os.environ.get("XCLIMB_VASP_RUNS", Path(__file__).parents[3] / "shared" / "data" / "vasp_runs"))
real = pytest.mark.skipif(not RUNS.is_dir(), reason="the real VASP runs are not at hand (XCLIMB_VASP_RUNS)")

HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <incar>{incar}</incar>
 <parameters><separator name="electronic"><i type="int" name="NELM">3</i></separator></parameters>
 <atominfo>
  <array name="atoms"><set><rc><c>Fe</c><c>1</c></rc><rc><c>O </c><c>2</c></rc></set></array>
  <array name="atomtypes"><set>
   <rc><c>1</c><c>Fe</c><c>55.8</c><c>8.0</c><c> PAW_PBE Fe_pv 02Aug2007 </c></rc>
   <rc><c>1</c><c>O </c><c>16.0</c><c>6.0</c><c> PAW_PBE O 08Apr2002 </c></rc>
  </set></array>
 </atominfo>
"""
STEP = """ <calculation>{electronic}
  <structure><crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0.5 0.5 {z}</v></varray></structure>
  <varray name="forces"><v>0 0 {force}</v><v>0 0 -0.5</v></varray>
  <varray name="stress"><v>10 0 0</v><v>0 20 0</v><v>0 0 30</v></varray>
  <energy><i name="e_fr_energy">-9.5</i><i name="e_wo_entrp">-9.3</i><i name="e_0_energy">-0.1</i></energy>
 </calculation>
"""
ELECTRONIC = '<scstep><energy><i name="e_fr_energy">-9.0</i><i name="e_0_energy">-8.9</i></energy></scstep>'
MOMENTS = b""" magnetization (x)

# of ion       s       p       d       tot
------------------------------------------
    1        0.0     0.0     3.5     3.6
    2        0.0     0.1     0.0     0.1
--------------------------------------------------
tot          0.0     0.1     3.5     3.7
"""


def run(folder, steps=2, incar="", tail="</modeling>", electronic=(2, 2, 2), force="0.5", outcar=b""):
    folder.mkdir(parents=True, exist_ok=True)
    made = "".join(STEP.format(electronic=ELECTRONIC * electronic[n], z=0.5 + 0.01 * n, force=force) for n in range(steps))
    with gzip.open(folder / "vasprun.xml.gz", "wb") as file:
        file.write((HEAD.format(incar=incar) + made + tail).encode())
    if outcar:
        (folder / "OUTCAR").write_bytes(outcar)
    return folder


def test_values_signs_and_the_energy_with_dispersion(tmp_path):
    frames = read(run(tmp_path / "a", outcar=MOMENTS * 2))
    assert frames.numbers.tolist() == [26, 8, 26, 8]
    np.testing.assert_allclose(frames.energy, -9.4)  # free energy of the step, and what smearing takes away
    np.testing.assert_allclose(frames.stress[0], -0.1 / 160.21766208 * np.diag([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(frames.positions[3], [2.0, 2.0, 2.04])
    np.testing.assert_array_equal(frames.magmoms, [3.6, 0.1, 3.6, 0.1])
    free = read(tmp_path / "a", energy="free")
    assert free.energy.tolist() == [-9.5, -9.5]
    assert (frames.theory.energy_flavour, free.theory.energy_flavour) == ("e_0", "free")
    assert read(tmp_path / "a", steps="last").frame_id.tolist() == ["vasprun#1"]


def test_moments_written_once_belong_to_the_last_step(tmp_path):
    moments = read(run(tmp_path / "a", outcar=MOMENTS)).magmoms
    np.testing.assert_array_equal(moments, [np.nan, np.nan, 3.6, 0.1])
    assert not read(run(tmp_path / "b")).has("magmoms")


@pytest.mark.parametrize("tail", ["", " <calculation><scstep>", STEP.format(electronic="", z=0.5, force="1")[:200]])
def test_unfinished_runs_are_recovered_to_the_last_whole_step(tmp_path, tail):
    summary = ingest(run(tmp_path / "a", tail=tail), tmp_path / "store")
    assert (summary.n_in, summary.n_out, summary.reasons) == (3, 2, {"file cannot be read": 1})
    assert "breaks off after ionic step 2" in summary.rejects_path.read_text()
    with pytest.raises(DataError, match="no whole ionic step"):
        read(run(tmp_path / "b", steps=0, tail=tail))


def test_electrons_that_did_not_converge(tmp_path):
    folder = run(tmp_path / "a", electronic=(2, 3))
    summary = ingest(folder, tmp_path / "store")
    assert (summary.n_out, summary.reasons) == (1, {"not converged": 1})
    summary = ingest(folder, tmp_path / "other", checks={"converged": "warn"})
    assert (summary.n_out, summary.warned["not converged"]) == (2, 1)


def test_numbers_that_did_not_fit_their_column(tmp_path):
    assert ingest_reasons(run(tmp_path / "a", force="********"), tmp_path) == {"none": "forces are incomplete"}


def ingest_reasons(folder, tmp_path):
    with pytest.raises(DataError, match="none of the 2 frames"):
        ingest(folder, tmp_path / "store")
    text = (tmp_path / "store.rejects.csv").read_text()
    return {"none": "forces are incomplete" if text.count("forces are incomplete") == 2 else text}


def test_levels_of_theory_do_not_mix(tmp_path):
    run(tmp_path / "runs" / "a", incar='<i type="int" name="IVDW">11</i>')
    folder = run(tmp_path / "runs" / "b")
    (folder / "INCAR").write_text("ENCUT = 520\nIVDW=2   ! TS\n")
    with pytest.raises(TheoryError, match=r"dispersion: D3\(0\) against TS.*with_theory"):
        ingest(tmp_path / "runs", tmp_path / "store")
    assert not (tmp_path / "store").exists()


@real
@pytest.mark.parametrize("name", ["no-magmoms", "with-magmoms"])
@pytest.mark.filterwarnings("ignore")
def test_real_runs_agree_with_pymatgen(name):
    from pymatgen.io.vasp import Outcar, Vasprun

    frames = read(RUNS / name, strict=False)
    theirs = Vasprun(RUNS / name / "vasprun.xml.gz", parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    last = theirs.ionic_steps[-1]
    assert float(theirs.final_energy) == pytest.approx(frames.energy[-1], abs=1e-7)
    np.testing.assert_allclose(frames[-1].forces, last["forces"], atol=1e-10)
    np.testing.assert_allclose(frames[-1].positions, last["structure"].cart_coords, atol=1e-10)
    np.testing.assert_allclose(frames.stress[-1], -0.1 / 160.21766208 * np.array(last["stress"]), atol=1e-12)
    moments = [one["tot"] for one in Outcar(RUNS / name / "OUTCAR.gz").magnetization]
    assert frames[-1].has("magmoms") == bool(moments)
    if moments:
        np.testing.assert_allclose(frames[-1].magmoms, moments)


@real
def test_real_runs_are_told_apart(tmp_path):
    summary = ingest(RUNS / "no-magmoms", tmp_path / "ts")
    assert (summary.n_in, summary.reasons) == (49, {"force too large": 1})
    assert summary.theory.dispersion == "TS"
    with pytest.raises(TheoryError, match=r"TS against D3\(0\).*with_theory"):
        ingest(RUNS, tmp_path / "store")
