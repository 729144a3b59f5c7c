"""Task documents and mlearn's records: every ionic step with its labels, and the level of theory."""

import gzip
import json

import numpy as np
import pytest

from ingest.test_mp_json import matpes, structure, write
from xclimb.errors import TheoryError
from xclimb.ingest import ingest, read

KBAR = -0.1 / 160.21766208
STRESS = [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]]
R2SCAN = {"METAGGA": "R2scan", "GGA": "Ps", "ENCUT": 680, "NELM": 100}


def ionic_step(energy, electronic=2):
    inner = [{"e_fr_energy": energy - 0.5, "e_0_energy": energy - 0.4}] * electronic
    return {
        "structure": structure().as_dict(), "forces": [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]], "stress": STRESS,
        "e_fr_energy": energy, "e_wo_entrp": energy + 0.2, "e_0_energy": 7.0, "electronic_steps": inner,
    }  # fmt: skip


def calculation(energies, incar=None, run_type=None, electronic=2):
    made = {"output": {"ionic_steps": [ionic_step(energy, electronic) for energy in energies], "energy": energies[-1]}}
    made["output"]["structure"] = structure(magmom=[0.5, 1.5]).as_dict()
    made["input"] = {
        "incar": incar or {},
        "potcar_spec": [{"titel": "PAW_PBE Li_sv 10Sep2004"}, {"titel": "PAW_PBE O 08Apr2002"}],
    }
    return made | ({"run_type": run_type} if run_type else {})


def task(name="mp-1", calculations=None, **changes):
    """A document with its fields in an order that hides the calculations behind other structures."""
    made = {
        "@module": "emmet.core.tasks", "orig_inputs": {"poscar": {"structure": structure().as_dict()}, "incar": {}},
        "input": {"structure": structure().as_dict(), "incar": R2SCAN},
        "output": {"structure": structure().as_dict(), "energy": -9.0, "forces": [[0.0, 0.0, 0.1]] * 2, "stress": STRESS},
        "task_id": name, "calcs_reversed": calculations or [calculation([-9.0, -9.5], R2SCAN)],
    }  # fmt: skip
    return {key: value for key, value in (made | changes).items() if value is not None}


@pytest.mark.parametrize("shape", ["one", "list", "lines", "answer"])
@pytest.mark.parametrize("name", ["tasks.json", "tasks.json.gz"])
def test_every_ionic_step_of_a_task(tmp_path, shape, name):
    many = [task("mp-1"), task("mp-2", [calculation([-7.0], R2SCAN)])]
    path = write(tmp_path / name, {"one": many[0], "answer": {"data": many}}.get(shape, many))
    if shape == "lines":
        text = "\n".join(map(json.dumps, many)).encode()
        path = tmp_path / name.replace("json", "jsonl")
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    frames = read(path)
    ids = ["mp-1#0", "mp-1#1", "mp-2#0"][: len(frames)]
    assert frames.frame_id.tolist() == ids
    np.testing.assert_allclose(frames.energy, [-8.9, -9.4, -6.9][: len(ids)])
    np.testing.assert_allclose(frames.stress[0], KBAR * np.array(STRESS))
    np.testing.assert_allclose(frames.forces[0], [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(frames[1].magmoms, [0.5, 1.5])
    assert str(frames.theory) == "r2SCAN, VASP"
    assert (frames.theory.cutoff, frames.theory.potcar["Li"]) == (680.0, "PAW_PBE Li_sv 10Sep2004")


def test_free_energies_and_last_steps(tmp_path):
    path = write(tmp_path / "a.json", [task()])
    assert read(path, energy="free").energy.tolist() == [-9.0, -9.5]
    assert read(path, steps="last").frame_id.tolist() == ["mp-1#1"]


def test_calculations_of_one_task_are_in_the_order_of_time_and_each_at_its_level(tmp_path):
    both = [calculation([-9.5], R2SCAN), calculation([-9.0, -9.1], {"GGA": "PS", "NELM": 100})]
    path = write(tmp_path / "a.json", [task(calculations=both)])
    with pytest.raises(TheoryError, match="PBEsol 1 file, r2SCAN 1"):
        read(path)
    assert read(path, only="PBEsol").frame_id.tolist() == ["mp-1-0#0", "mp-1-0#1"]
    assert read(path, only="r2SCAN").frame_id.tolist() == ["mp-1-1#0"]


@pytest.mark.parametrize(
    ("changes", "functional"),
    [
        ({"run_type": "r2SCAN"}, "r2SCAN"), ({"run_type": "GGA_U"}, "PBE+U"), ({"calc_type": "GGA Static"}, "PBE"),
        ({"run_type": "PBESol"}, "PBEsol"), ({}, None),
    ],
)  # fmt: skip
def test_an_output_alone(tmp_path, changes, functional):
    document = task(orig_inputs=None, input=None, calcs_reversed=None, **changes)
    frames = read(write(tmp_path / "a.json", [document]))
    assert (frames.theory.functional, frames.energy.tolist()) == (functional, [-9.0])
    np.testing.assert_allclose(frames.stress[0], KBAR * np.array(STRESS))


def test_steps_that_did_not_converge_and_damaged_documents(tmp_path):
    many = [
        task("mp-1", [calculation([-9.0], R2SCAN, electronic=100)]),
        task("mp-2"),
        task("mp-3", calcs_reversed=[], output={}),
    ]
    summary = ingest(write(tmp_path / "a.json", many), tmp_path / "store")
    assert (summary.n_out, summary.reasons) == (2, {"not converged": 1, "no structure": 1})
    path = tmp_path / "cut.jsonl"
    path.write_text("\n".join(json.dumps(task(f"mp-{n}")) for n in range(3))[:-500])
    summary = ingest(path, tmp_path / "other", checks={"duplicate": "off"})
    assert (summary.n_out, summary.reasons) == (4, {"file cannot be read": 1})


def test_matpes_and_lines_of_it(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(matpes(matpes_id=name)) for name in "ab"))
    assert read(path).frame_id.tolist() == ["a", "b"]


def test_mlearn(tmp_path):
    """Order and unit of virial_stress: xx yy zz xy yz xz in kbar, VASP's sign."""
    record = {
        "structure": structure().as_dict(), "group": "Elastic", "tag": "train", "description": "", "num_atoms": 2,
        "outputs": {"energy": -9.0, "forces": [[0.1, 0.2, 0.3]] * 2, "virial_stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]},
    }  # fmt: skip
    frames = read(write(tmp_path / "training.json", [record, record]))
    assert frames.energy.tolist() == [-9.0, -9.0]
    np.testing.assert_allclose(frames.forces[0], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(frames.stress[0], KBAR * np.array([[1.0, 4.0, 6.0], [4.0, 2.0, 5.0], [6.0, 5.0, 3.0]]))
    assert frames.extras["group"].tolist() == ["Elastic", "Elastic"]
    assert frames.theory.functional is None
