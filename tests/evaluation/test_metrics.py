import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError
from xclimb.evaluation.frame_errors import frame_errors, save_errors
from xclimb.evaluation.metrics import Metrics, compare_labels, evaluate
from xclimb.units import GPA_PER_EV_A3


def labelled(seed=0, sizes=(2, 3, 1)) -> Frames:
    rng = np.random.default_rng(seed)
    atoms, systems = sum(sizes), len(sizes)
    return Frames(
        numbers=np.arange(1, atoms + 1),
        positions=rng.normal(size=(atoms, 3)),
        cells=np.tile(4.0 * np.eye(3), (systems, 1, 1)),
        pbc=np.ones((systems, 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        energy=rng.normal(size=systems),
        forces=rng.normal(size=(atoms, 3)),
        stress=rng.normal(size=(systems, 3, 3)),
        magmoms=rng.normal(size=atoms),
        theory=LevelOfTheory("r2SCAN"),
    )


@dataclass
class Shifted:
    """A potential that is off by known amounts."""

    by: dict
    theory: LevelOfTheory = field(default_factory=lambda: LevelOfTheory("r2SCAN"))

    def label(self, frames: Frames) -> Frames:
        return frames.replace(**{name: getattr(frames, name) + off for name, off in self.by.items()}, theory=self.theory)


def test_units_and_counts():
    frames = labelled()
    off = {"energy": 0.006 * np.array([1.0, -1.0, 1.0]), "forces": 0.004, "stress": 0.01}
    found = evaluate(Shifted(off), frames)
    assert found.energy_mae == pytest.approx((3.0 + 2.0 + 6.0) / 3)  # 6 meV on 2, 3 and 1 atoms
    assert found.energy_rmse == pytest.approx(np.sqrt((9.0 + 4.0 + 36.0) / 3))
    assert found.forces_mae == pytest.approx(4.0)
    assert found.forces_rmse == pytest.approx(4.0)
    assert found.stress_mae == pytest.approx(0.01 * GPA_PER_EV_A3)
    assert found.magmom_mae == 0.0
    counts = (found.n_frames, found.n_atoms, found.n_energy, found.n_forces, found.n_stress, found.n_magmoms)
    assert counts == (3, 6, 3, 6, 3, 6)
    assert found.notes == ()


def test_energies_are_taken_apart_by_material():
    frames = labelled().replace(material_id=np.array(["a", "a", "b"]))
    found = evaluate(Shifted({"energy": 0.001 * np.array([2.0, 18.0, 5.0])}), frames)  # 1 and 6, 5 meV/atom
    assert found.energy_mae == pytest.approx(4.0)
    assert found.energy_means_mae == pytest.approx((3.5 + 5.0) / 2)
    assert found.energy_within_mae == pytest.approx(2.5)
    alone = evaluate(Shifted({"energy": 0.001}), frames[[0, 2]])
    assert np.isnan(alone.energy_within_mae)
    assert Metrics.from_dict(alone.to_dict()).to_dict() == alone.to_dict()


def test_forces_and_stress_are_component_wise():
    frames = labelled()
    forces, stress = np.zeros((6, 3)), np.zeros((3, 3, 3))
    forces[2, 1], stress[1, 0, 2] = 0.18, 0.27
    found = evaluate(Shifted({"forces": forces, "stress": stress}), frames)
    assert found.forces_mae == pytest.approx(180.0 / 18)
    assert found.forces_rmse == pytest.approx(180.0 / np.sqrt(18))
    assert found.stress_mae == pytest.approx(0.01 * GPA_PER_EV_A3)


def test_a_flip_of_all_spins_is_no_error():
    frames = labelled()
    assert compare_labels(frames.replace(magmoms=-frames.magmoms), frames).magmom_mae == 0.0


def test_missing_labels_are_left_out():
    frames = labelled()
    energy, forces, magmoms = frames.energy.copy(), frames.forces.copy(), np.full(6, np.nan)
    energy[1], forces[:2] = np.nan, np.nan
    found = evaluate(Shifted({"energy": 0.006, "forces": 0.004}), frames.replace(energy=energy, forces=forces, magmoms=magmoms))
    assert found.energy_mae == pytest.approx((3.0 + 6.0) / 2)
    assert found.forces_mae == pytest.approx(4.0)
    assert (found.n_energy, found.n_forces, found.n_magmoms) == (2, 4, 0)
    assert np.isnan(found.magmom_mae)
    assert np.isnan(found.magmom_rmse)
    assert found.notes == ()


def test_predictions_that_fail_are_told():
    frames = labelled()
    found = evaluate(Shifted({"energy": np.array([0.0, np.nan, 0.0])}), frames)
    assert found.n_energy == 2
    assert found.notes == ("1 of 3 labelled rows of energy have no finite prediction and are left out.",)


def test_another_level_of_theory_is_told():
    (note,) = evaluate(Shifted({}, LevelOfTheory("PBE")), labelled()).notes
    assert "different levels of theory (functional: PBE against r2SCAN)" in note


def test_labels_of_an_unknown_functional_are_told():
    (note,) = evaluate(Shifted({}, LevelOfTheory("PBE")), labelled().with_theory(LevelOfTheory())).notes
    assert "functional of the labels is not known, that of the potential is PBE" in note


def test_json_returns_the_same():
    found = evaluate(Shifted({"energy": 0.1}, LevelOfTheory("PBE")), labelled().replace(magmoms=np.full(6, np.nan)))
    fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert fields["magmom_mae"] is None
    assert Metrics.from_dict(fields).to_dict() == found.to_dict()
    assert "meV/atom" in str(found)


def test_refusals():
    frames, pot = labelled(), Shifted({})
    with pytest.raises(DataError, match="the set is empty"):
        evaluate(pot, frames[:0])
    bare = Frames(frames.numbers, frames.positions, frames.cells, frames.pbc, frames.offsets)
    with pytest.raises(DataError, match="none of the 3 frames has a label"):
        evaluate(pot, bare)
    with pytest.raises(DataError, match="same frames in the same order"):
        compare_labels(frames[::-1], frames)


# -- references fitted to the data ---------------------------------------------------------------------------------------


def of_materials(compositions: list[list[int]], materials: list[str], energy) -> Frames:
    sizes = [len(numbers) for numbers in compositions]
    return Frames(
        numbers=np.concatenate(compositions),
        positions=np.zeros((sum(sizes), 3)),
        cells=np.tile(4.0 * np.eye(3), (len(sizes), 1, 1)),
        pbc=np.ones((len(sizes), 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        energy=np.asarray(energy, dtype=float),
        material_id=np.array(materials),
        theory=LevelOfTheory("r2SCAN"),
    )


def test_with_fitted_references_no_energy_helps_to_predict_itself():
    rng = np.random.default_rng(4)
    compositions = [rng.choice([3, 8, 11], rng.integers(2, 6)).tolist() for _ in range(12)] + [[26, 8]]
    materials = [f"m{k // 2}" for k in range(12)] + ["iron"]
    frames = of_materials(compositions, materials, rng.normal(size=13))
    pot = Shifted({"energy": rng.normal(size=13)})
    found = evaluate(pot, frames, fit_references=True)
    errors = []
    for material in np.unique(materials[:12]):
        out = frames.material_id == material
        x = frames.composition() / frames.n_atoms[:, None]
        target = -pot.by["energy"] / frames.n_atoms
        values = np.linalg.lstsq(x[~out], target[~out], rcond=None)[0]
        errors += np.abs(target[out] - x[out] @ values).tolist()
    assert found.energy_mae == pytest.approx(1e3 * np.mean(errors))
    assert (found.n_energy, found.n_frames) == (12, 13)
    assert "1 frame whose elements occur in no other material left out" in found.notes[0]


def test_a_single_material_is_told_to_be_a_fit():
    frames = of_materials([[3, 3], [3, 3]], ["a", "a"], [1.0, 2.0])
    found = evaluate(Shifted({"energy": np.array([0.5, 0.7])}), frames, fit_references=True)
    assert found.energy_mae == pytest.approx(50.0)
    assert "since 1 material cannot be predicted from each other" in found.notes[0]


def test_frame_by_frame_the_errors_are_those_of_the_whole(tmp_path):
    frames = labelled().replace(extras={"config_type": np.array(["=cmd", "b", "b"])})
    found = frame_errors(Shifted({"energy": np.array([0.006, -0.006, 0.6]), "forces": 0.004, "stress": 0.0}), frames)
    columns = found.columns
    assert np.abs(columns["energy_error_meV_per_atom"]).mean() == pytest.approx(found.metrics.energy_mae)
    np.testing.assert_allclose(columns["forces_max_meV_per_A"], 4.0)
    assert found.worst(1)[0]["frame_id"] == frames.frame_id[2]
    assert [row["element"] for row in found.by_element()] == ["H", "He", "Li", "Be", "B", "C"]
    assert found.by_element()[0]["energy_mae_meV_per_atom"] == pytest.approx(3.0)
    assert found.by_group()["b"].n_frames == 2
    assert len(repr(found)) < 200
    written = save_errors([found], tmp_path / "errors")
    assert [path.name for path in written] == ["frames.csv", "worst.csv", "by_element.csv", "by_config_type.csv"]
    with pytest.raises(ConfigError, match="already"):
        save_errors([found], tmp_path / "errors")
    with pytest.raises(ConfigError, match=r"give a folder, or a name that ends in \.csv or \.parquet"):
        save_errors([found], tmp_path / "errors.txt")
