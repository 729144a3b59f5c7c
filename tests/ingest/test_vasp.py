"""VASP runs: small made-up ones always; the two real ones where they are at hand, against pymatgen's own numbers."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from xclimb.cli.shell import as_options
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
    with pytest.raises(TheoryError, match=r"PBE-D3\(0\) 1 file, PBE-TS 1; keep one"):
        ingest(tmp_path / "runs", tmp_path / "store")
    assert not (tmp_path / "store").exists()


OSZICAR = """DAV:   1    -0.89E+01   -0.16096E-05   -0.83449E-06  8576   0.996E-03    0.307E-03
   1 F= -.95000000E+01 E0= -.94000000E+01  d E =-.511277E-24  mag=     3.7000
   2 F= -.95000000E+01 E0= -.94000000E+01  d E =-.1E-02  mag=     3.8000
   3 F= -.97000000E+01 E0= -.96000000E+01  d E =-.2E-02  mag=     3.9000
"""


@pytest.mark.filterwarnings("ignore:.*frames dropped .1 file cannot be read")
def test_a_step_that_lacks_nothing_but_its_end_is_kept(tmp_path):
    third = STEP.format(electronic=ELECTRONIC * 2, z=0.52, force="0.5")
    behind_energy = third.split("</energy>\n </calc")[0] + "</energy>\n <dos><i "
    before_energy = third.split('  <energy><i name="e_fr_energy">-9.5')[0]
    whole = read(run(tmp_path / "a", tail=behind_energy), strict=False)
    np.testing.assert_allclose(whole.energy, -9.4)
    assert len(whole) == 3
    assert len(read(run(tmp_path / "b", tail=before_energy), strict=False)) == 2
    folder = run(tmp_path / "c", tail=before_energy)
    (folder / "OSZICAR").write_text(OSZICAR)
    told = read(folder, strict=False)
    np.testing.assert_allclose(told.energy, [-9.4, -9.4, -9.6])
    assert told.extras["total_magmom"].tolist() == [3.7, 3.8, 3.9]
    np.testing.assert_allclose(told.positions[5], [2.0, 2.0, 2.08])
    assert read(folder, strict=False, energy="free").energy.tolist() == [-9.5, -9.5, -9.7]
    (folder / "OSZICAR").write_text(OSZICAR.replace("-.95", "-.94"))  # of another run
    other = read(folder, strict=False)
    assert (len(other), "total_magmom" in other.extras) == (2, False)


def test_cutoff_and_titles_of_the_potcar(tmp_path):
    theory = read(run(tmp_path / "a", incar='<i name="ENCUT">    520.00000000</i>')).theory
    assert theory.cutoff == 520.0
    assert theory.potcar == {"Fe": "PAW_PBE Fe_pv 02Aug2007", "O": "PAW_PBE O 08Apr2002"}
    assert theory.pseudopotentials == "PAW_PBE"


def test_other_cutoffs_and_potentials_mix_only_if_told_to(tmp_path):
    runs = tmp_path / "runs"
    run(runs / "a", incar='<i name="ENCUT">520</i>')
    run(runs / "b", incar='<i name="ENCUT">680</i>')
    with pytest.raises(TheoryError, match=r"cutoff: 520.0 against 680.0\).*ingest them with mix='cutoff'"):
        ingest(runs, tmp_path / "store")
    summary = ingest(runs, tmp_path / "store", mix="cutoff", checks={"duplicate": "off"})
    assert (summary.n_out, summary.theory.cutoff) == (4, None)
    with pytest.raises(TheoryError, match="levels that differ in 'dispersion' cannot be mixed"):
        ingest(runs, tmp_path / "other", mix="dispersion")
    run(runs / "b", incar='<i name="ENCUT">520</i>')
    path = runs / "b" / "vasprun.xml.gz"
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text.replace(b"<c>O </c><c>", b"<c>S </c><c>").replace(b"PAW_PBE O ", b"PAW_PBE S ")))
    joined = ingest(runs, tmp_path / "third").theory  # of different elements: all titles are known
    assert joined.potcar.keys() == {"Fe", "O", "S"}
    path.write_bytes(gzip.compress(text.replace(b"PAW_PBE Fe_pv", b"PAW_PBE Fe")))
    with pytest.raises(TheoryError, match=r"potcar: Fe PAW_PBE Fe_pv 02Aug2007 against Fe PAW_PBE Fe 02Aug2007\)"):
        ingest(runs, tmp_path / "fourth")


@real
@pytest.mark.parametrize("name", ["no-magmoms", "with-magmoms"])
def test_real_runs_agree_with_their_oszicar(name):
    from xclimb.formats.vasp.oszicar import read_oszicar

    steps = read_oszicar(RUNS / name / "vasprun.xml.gz")
    frames = read(RUNS / name, steps="last")
    assert frames.energy[0] == pytest.approx(steps[-1].zero, abs=1e-5)
    assert frames.theory.cutoff == {"no-magmoms": 400.0, "with-magmoms": 520.0}[name]
    assert frames.theory.potcar["O" if name == "no-magmoms" else "Li"].startswith("PAW_PBE")
    if name == "with-magmoms":
        assert frames.extras["total_magmom"].tolist() == [0.0002]


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
    with pytest.raises(TheoryError, match=r"PBE-TS 1 file, PBE-D3\(0\) 1; keep one"):
        ingest(RUNS, tmp_path / "store")


def test_iterations_of_response_functions_do_not_limit_the_electrons(tmp_path):
    folder = run(tmp_path / "a", electronic=(2, 3))
    path = folder / "vasprun.xml.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    stated = '<separator name="electronic"><i type="int" name="NELM">3</i></separator>'
    assert stated in text
    default = """<separator name="electronic"><separator name="electronic convergence"><i type="int" name="NELM">60</i>
      <i name="NELMIN">2</i></separator></separator><separator name="response functions"><i name="NELM">1</i></separator>"""
    path.write_bytes(gzip.compress(text.replace(stated, default).encode()))
    assert len(read(folder)) == 2
    path.write_bytes(gzip.compress(text.replace(stated, default.replace("60", "3")).encode()))
    with pytest.raises(DataError, match=r"not converged.*--check converged=warn.*1 of 2 frames"):
        read(folder)


def test_errors_about_convergence_name_the_way_out(tmp_path):
    with pytest.raises(
        DataError, match=r"none of the 2 frames can be used \(2 not converged; checks=.'converged': 'warn'. "
    ) as caught:
        ingest(run(tmp_path / "a", electronic=(3, 3)), tmp_path / "store")
    assert "; --check converged=warn keeps steps" in as_options(str(caught.value))


def test_a_stress_of_vasp_is_in_its_own_unit(tmp_path):
    folder = run(tmp_path / "a")
    path = folder / "vasprun.xml.gz"
    text = gzip.decompress(path.read_bytes()).replace(b"<v>10 0 0</v>", b"<v>90000 0 0</v>")
    path.write_bytes(gzip.compress(text))
    with pytest.raises(DataError, match="2 stress too large"):
        ingest(folder, tmp_path / "store")
    detail = (tmp_path / "store.rejects.csv").read_text()
    assert "9000 GPa" in detail
    assert "given as" not in detail
