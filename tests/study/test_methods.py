import json
import os
import signal

import numpy as np
import pytest

import xclimb
from xclimb.config import TransferConfig
from xclimb.errors import CheckpointError, ConfigError, DataError
from xclimb.files import read_json
from xclimb.runs.schema import read_results
from xclimb.study import grid
from xclimb.study.base import Sets, Trial
from xclimb.study.methods import METHODS_STUDY, study_methods
from xclimb.study.run import make_plan, retention
from xclimb.study.summary import summary_table

METHODS = ("frozen", "residual")
SETTINGS = {"methods": METHODS, "seeds": (0, 1), "epochs": 1, "batch_size": 8, "progress": False}


@pytest.fixture(scope="module")
def data():
    """A few rock salts at both functionals; NaF, whose elements are in others, is held out for validation and test."""
    sets = [xclimb.load_sample("dft_pairs", functional=name) for name in ("PBE", "r2SCAN")]
    keep = np.isin(sets[0].formulas(), ["NaCl", "LiF", "MgO", "NaF"])
    low, high = (frames[keep] for frames in sets)
    held = high.frame_id[high.formulas() == "NaF"]
    ids = [np.setdiff1d(high.frame_id, held), held[:2], held[2:]]
    return low, high, ids


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    said = []
    study = study_methods(*data, out, sample="dft_pairs", say=said.append, **SETTINGS)
    assert study.path == out
    assert said[0].startswith("shift r2SCAN - PBE")
    assert "references alone" in said[1]
    return out


def test_folder_has_everything_a_report_needs(folder, data):
    names = {path.name for path in folder.iterdir()}
    assert names == {"study.json", "shift.json", "references", "runs", "results.json", "predictions.json"}
    assert {path.name for path in (folder / "runs").iterdir()} == {f"{name}-{seed}" for name in METHODS for seed in (0, 1)}
    assert {path.stem for path in (folder / "references").iterdir()} == {"source", "raw", "residual", "robust"}
    study = read_json(folder / "study.json")
    assert (study["methods"], study["seeds"], study["sample"]) == (list(METHODS), [0, 1], "dft_pairs")
    assert study["theory"]["low"]["functional"] == "PBE"
    assert study["theory"]["high"]["functional"] == "r2SCAN"
    assert study["settings"]["epochs"] == 1
    assert study["data"]["test"]["frames"] == len(data[2][2])


def test_results_hold_every_model_on_every_split(folder):
    rows = read_results(folder).select(metric="energy_mae").rows
    baselines = ["chgnet-0.3.0", "chgnet-0.3.0 + residual references", "chgnet-r2scan", "chgnet-r2scan + residual references"]
    found = {(row.model, row.seed, row.kind, row.split) for row in rows if row.labels == "target"}
    expected = {(model, None, "baseline") for model in baselines} | {
        (name, seed, "method") for name in METHODS for seed in (0, 1)
    }
    assert found == {(*row, split) for row in expected for split in ("train", "val", "test")}
    kept = [row for row in rows if row.labels == "source"]
    assert {(row.model, row.seed, row.kind) for row in kept} == expected
    assert len(rows) == len(found) + len(kept)
    assert {row.n_train for row in rows} == {15}


def test_numbers_are_those_of_the_saved_potentials(folder, data):
    low, high, ids = data
    test = high[np.isin(high.frame_id, ids[2])]
    best = xclimb.load(folder / "runs" / "residual-1")
    table = read_results(folder).select(model="residual", seed=1, split="test")
    row, kept = ({one.metric: one.value for one in table.select(labels=labels).rows} for labels in ("target", "source"))
    errors = xclimb.evaluate(best, test)
    assert row["energy_mae"] == pytest.approx(errors.energy_mae, rel=1e-3)
    assert row["forces_mae"] == pytest.approx(errors.forces_mae, rel=1e-3)
    assert read_json(folder / "runs" / "residual-1" / "evaluation.json")["test"]["energy_mae"] == pytest.approx(
        row["energy_mae"]
    )
    low_train, low_test = (low[np.isin(low.frame_id, part)] for part in (ids[0], ids[2]))
    assert kept["energy_mae"] == pytest.approx(retention(best, low_train, low_test).energy_mae, rel=1e-3)


def test_retention_does_not_blame_the_energy_zero(folder, data):
    low, _, ids = data
    source = xclimb.load("chgnet-0.3.0")
    moved = source.with_references(xclimb.AtomRef.from_table(np.full(94, 77.0)))
    low_train, low_test = (low[np.isin(low.frame_id, part)] for part in (ids[0], ids[2]))
    one, other = (retention(potential, low_train, low_test) for potential in (source, moved))
    assert one.energy_mae == pytest.approx(other.energy_mae, rel=1e-3)


def test_untouched_source_is_kept_as_it_is(folder):
    rows = {row["model"]: row for row in summary_table(folder)}
    aligned, untouched = rows["chgnet-0.3.0 + residual references"], rows["chgnet-0.3.0"]
    assert untouched["energy_mae"] > 5 * aligned["energy_mae"]
    assert untouched["forces_mae"] == pytest.approx(aligned["forces_mae"], rel=1e-4)
    assert untouched["retention_energy_mae"] == pytest.approx(aligned["retention_energy_mae"], rel=1e-2)


def test_predictions_fit_the_test_frames(folder, data):
    _, high, ids = data
    test = high[np.isin(high.frame_id, ids[2])]
    predictions = read_json(folder / "predictions.json")
    assert predictions["frame_id"] == test.frame_id.tolist()
    assert predictions["n_atoms"] == test.n_atoms.tolist()
    assert set(predictions["models"]) >= {*METHODS, "chgnet-0.3.0", "chgnet-r2scan"}
    for labels in (predictions["reference"], *predictions["models"].values()):
        assert len(labels["energy_per_atom"]) == len(test)
        assert len(labels["forces"]) == 3 * test.total_atoms
        assert len(labels["stress"]) == 9 * len(test)
    np.testing.assert_allclose(predictions["reference"]["energy_per_atom"], test.energy_per_atom)


def test_summary_is_mean_and_deviation_over_seeds(folder):
    rows = {row["model"]: row for row in summary_table(folder)}
    results = read_results(folder).select(split="test", model="frozen", metric="energy_mae", labels="target")
    values = [row.value for row in results.rows]
    assert rows["frozen"]["seeds"] == 2
    assert rows["frozen"]["energy_mae"] == pytest.approx(np.mean(values))
    assert rows["frozen"]["energy_mae_std"] == pytest.approx(np.std(values, ddof=1))
    assert rows["chgnet-0.3.0"]["energy_mae_std"] is None
    assert list(rows)[-2:] == list(METHODS)
    with pytest.raises(CheckpointError, match="no complete run or study folder"):
        summary_table(folder / "runs")


def test_finished_runs_are_not_repeated_and_unfinished_ones_are(folder, data, monkeypatch):
    ran = []
    original = grid.run_trial
    monkeypatch.setattr(
        grid, "run_trial", lambda trial, *rest, **more: ran.append(trial.name) or original(trial, *rest, **more)
    )
    before = summary_table(folder)
    record, errors = (folder / "runs" / name for name in ("frozen-1/run.json", "residual-0/evaluation.json"))
    record.write_text(json.dumps(read_json(record) | {"state": "interrupted"}))  # and no state to go on from: from the start
    errors.write_text(json.dumps({"val": read_json(errors)["val"]}))  # trained, but killed before it was evaluated
    weights = (folder / "runs" / "residual-0" / "checkpoints" / "last").stat().st_ino
    study_methods(*data, folder, sample="dft_pairs", **SETTINGS)
    assert ran == ["residual-0", "frozen-1"]
    assert (folder / "runs" / "residual-0" / "checkpoints" / "last").stat().st_ino == weights  # evaluated, not trained again
    assert summary_table(folder) == before  # same seed, same machine, same numbers


def test_an_interrupted_cell_goes_on_in_the_middle(folder, data, tmp_path):
    _, high, ids = data
    sets = Sets(*(high[np.isin(high.frame_id, part)] for part in ids))
    trial = Trial("residual-0", TransferConfig(epochs=2, batch_size=8))
    grid.run_grid([trial], grid.Grid(sets, tmp_path / "calm"))
    epochs = []

    def press(name, line):
        epochs.append(line["epoch"])
        if epochs == [0, 1]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        grid.run_grid([trial], grid.Grid(sets, tmp_path / "stopped", watch=press))
    grid.run_grid([trial], grid.Grid(sets, tmp_path / "stopped", watch=press))
    assert epochs == [0, 1, 2]  # no epoch twice
    for name in ("best", "last"):
        weights = [
            (tmp_path / where / "residual-0" / "checkpoints" / name / "weights.safetensors").read_bytes()
            for where in ("calm", "stopped")
        ]
        assert weights[0] == weights[1]
    assert read_json(tmp_path / "stopped" / "residual-0" / "evaluation.json")["test"]["energy_mae"] > 0


def test_other_settings_are_refused(folder, data):
    before = (folder / "results.json").read_bytes()
    with pytest.raises(ConfigError, match="finished run with another learning_rate"):
        study_methods(*data, folder, learning_rate=1e-4, **SETTINGS)
    assert (folder / "results.json").read_bytes() == before


def test_processes_give_the_same_numbers(folder, data, tmp_path):
    _, high, ids = data
    sets = Sets(*(high[np.isin(high.frame_id, part)] for part in ids))
    trials = [Trial(f"{name}-0", TransferConfig(method=name, epochs=1, batch_size=8)) for name in METHODS]
    watched, done = [], []
    running = grid.Grid(sets, tmp_path, watch=lambda name, line: watched.append(name), done=done.append)
    assert grid.run_grid(trials, running, workers=2) == {}
    assert sorted(done) == ["frozen-0", "residual-0"]
    assert set(watched) <= set(done)
    for name in done:
        one, other = (read_json(path / name / "evaluation.json")["test"] for path in (folder / "runs", tmp_path))
        assert one["energy_mae"] == pytest.approx(other["energy_mae"], rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "kind", "told"),
    [
        ({"methods": ("refitt",)}, ConfigError, "did you mean 'refit'"),
        ({"methods": ()}, ConfigError, "at least one method"),
        ({"seeds": (1, 1)}, ConfigError, "given twice"),
        ({"method": "refit"}, ConfigError, "method has no effect in a study"),
        ({"references_lr": 0.1}, ConfigError, "references_lr has no effect"),
        ({"epochs": 1, "loss": {"enery": 1}}, ConfigError, "did you mean 'loss.energy'"),
        ({"workers": 0}, ConfigError, "workers must be at least 1"),
    ],
)
def test_bad_settings_are_told_before_anything_is_run(tmp_path, data, changed, kind, told):
    with pytest.raises(kind, match=told):
        study_methods(*data, tmp_path / "s", **SETTINGS | changed)
    assert not (tmp_path / "s").exists()


def test_a_split_that_does_not_fit_is_told(tmp_path, data):
    low, high, ids = data
    with pytest.raises(DataError, match="frame nothing of the split is not in the data"):
        study_methods(low, high, [ids[0], ids[1], ["nothing"]], tmp_path / "s", **SETTINGS)
    with pytest.raises(DataError, match="three parts"):
        study_methods(low, high, ids[:2], tmp_path / "s", **SETTINGS)


def test_a_foreign_folder_is_not_touched(tmp_path, data):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no study"):
        study_methods(*data, tmp_path, overwrite=True, **SETTINGS)


def test_references_lr_goes_to_the_method_that_has_it(data):
    low, high, ids = data
    settings = {"references_lr": 0.1}
    names = ("frozen", "trainable")
    plan = make_plan(METHODS_STUDY, high, ids, low, names, (0,), epochs=1, **settings)
    assert [trial.config.method.model_dump() for trial in METHODS_STUDY.trials(plan)] == [
        {"name": "frozen"},
        {"name": "trainable", "references_lr": 0.1},
    ]
