"""Differences between models of a study: what is marked and claimed is what the interval supports."""

import numpy as np
import pytest

from report.synthetic import dump, write_study
from report.test_report import words
from xclimb.report import read_folder, write_report
from xclimb.report.pages.study import _tiles
from xclimb.runs.schema import Measurement, StudyPredictions, read_results
from xclimb.study import verdict_of
from xclimb.study.comparisons import difference, is_supported, leading
from xclimb.study.summary import by_model

ALONE = "chgnet-0.3.0 + residual references"


def models(errors: dict) -> dict:
    fields = {"kind": "method", "split": "test", "metric": "energy_mae"}
    rows = [
        Measurement(model=name, seed=seed if len(each) > 1 else None, value=value, **fields)
        for name, each in errors.items()
        for seed, value in enumerate(each)
    ]
    return {model.model: model for model in by_model(rows)}


def predictions(errors: dict, materials: int = 10) -> StudyPredictions:
    """One atom a frame, two frames a material; errors in meV/atom by material."""
    count = 2 * materials
    fields = {"frame_id": [f"f{k}" for k in range(count)], "formula": [f"Al{k // 2 + 1}O" for k in range(count)]}
    none = {"forces": [], "stress": []}
    reference = {"energy_per_atom": [-5.0] * count} | none
    made = {name: {"energy_per_atom": (-5.0 + np.repeat(each, 2) / 1000).tolist()} | none for name, each in errors.items()}
    return StudyPredictions.model_validate(fields | {"n_atoms": [1] * count, "reference": reference, "models": made})


def test_a_steady_gain_is_supported_and_a_lucky_one_is_not():
    found = models({"a": [10.0], "b": [20.0]})
    steady = predictions({"a": np.full(10, 10.0), "b": np.linspace(18.0, 22.0, 10)})
    centre, ends = difference(found["a"], found["b"], "energy_mae", steady)
    assert centre == -10.0
    assert ends[0] < -10.0 < ends[1] < 0.0
    lucky = predictions({"a": np.full(10, 10.0), "b": np.r_[np.full(9, 9.0), 119.0]})
    assert not is_supported(difference(found["a"], found["b"], "energy_mae", lucky)[1])
    assert leading(list(found.values()), "energy_mae", steady) == {"a"}
    assert leading(list(found.values()), "energy_mae", lucky) == {"a", "b"}


def test_seeds_widen_and_alone_can_decide():
    found = models({"a": [9.0, 10.0, 11.0], "b": [20.0], "c": [9.5, 10.5, 11.5]})
    ends = difference(found["a"], found["b"], "energy_mae", None)[1]
    assert ends[1] == pytest.approx(-10.0 + 4.302653 / 3**0.5)
    assert difference(found["a"], found["c"], "energy_mae", None)[1] == pytest.approx((-0.5, -0.5))  # paired by seed


def test_nothing_is_marked_without_an_interval():
    assert leading(list(models({"a": [10.0], "b": [20.0]}).values()), "energy_mae", None) == set()


def test_verdict_and_tile_state_the_gain_over_references_alone(tmp_path):
    folder = write_study(tmp_path, methods=("frozen", "residual"), seeds=(0, 1))
    study = read_folder(folder)
    found = {model.model: model for model in by_model(study.results.rows)}
    change, ends = difference(found["residual"], found[ALONE], "energy_mae", study.predictions)
    tile = next(tile for tile in _tiles(study) if tile.label == "Training, in energy")
    assert tile.value == f"−{-change:.1f}"
    assert f"{-ends[0]:.1f}" in tile.context
    text = " ".join(verdict_of(study))
    assert "does the rest" not in text
    assert "the energy zero" in text
    assert not any("×" in tile.value for tile in _tiles(study))


def test_a_gain_that_is_noise_is_called_so(tmp_path):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0, 1))
    table = read_results(folder)
    for row in table.rows:
        if row.model in ("residual", ALONE) and row.metric == "energy_mae":
            row.value = {0: 60.0, 1: 72.0}.get(row.seed, 67.0)
    dump(folder / "results.json", table.model_dump())
    page = write_report(folder).read_text(encoding="utf-8")
    assert "is not significant" in words(page)
