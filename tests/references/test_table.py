import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from references.planted import TRUTH, frames_of, planted
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ReferencesError
from xclimb.references import AtomRef, compare, fit_references

UNCOVERED = {"gga": (84, 85, 86, 87, 88), "r2scan": (70, 84, 85, 86, 87, 88)}


def shipped(which: str) -> AtomRef:
    """A table of elemental references as the installed chgnet package ships it."""
    import torch

    folder = Path(str(files("chgnet"))) / "pretrained"
    names = {"gga": "0.3.0", "r2scan": "r2scan"}
    (path,) = sorted((folder / names[which]).glob("*.pth.tar"))
    state = torch.load(path, map_location="cpu", weights_only=True)["model"]["state_dict"]
    values = state["composition_model.fc.weight"].double().numpy().reshape(-1)
    covered = ~np.isin(np.arange(1, 95), UNCOVERED[which])
    return AtomRef.from_table(values, covered, theory=LevelOfTheory({"gga": "GGA/GGA+U", "r2scan": "r2SCAN"}[which]))


def test_the_shipped_tables_differ_as_published():
    gga, r2scan = shipped("gga"), shipped("r2scan")
    assert set(r2scan.uncovered) == {"Yb", "Po", "At", "Rn", "Fr", "Ra"}
    assert set(gga.uncovered) == {"Po", "At", "Rn", "Fr", "Ra"}
    found = compare(gga, r2scan)
    assert found.n_both == 88
    assert round(found.mean, 1) == -21.5
    assert round(found.std, 1) == 19.2
    assert round(found.correlation_z2, 3) == -0.991
    order = list(found.largest.items())
    assert order[0] == ("Pu", pytest.approx(-73.3, abs=0.05))
    assert order[-1] == ("H", pytest.approx(-0.03, abs=0.005))
    shifts = {row["element"]: row["difference"] for row in found.rows()}
    assert shifts["O"] == pytest.approx(-0.74, abs=0.005)
    assert shifts["Fe"] == pytest.approx(-6.0, abs=0.05)
    assert shifts["Bi"] == pytest.approx(-54.7, abs=0.05)
    json.dumps(found.to_dict(), allow_nan=False)


def test_compare_says_what_is_covered_in_both():
    found = compare(AtomRef.from_energies({"H": -1.0, "O": -2.0}), AtomRef.from_energies({"O": -2.5, "Fe": -4.0}))
    assert found.symbols == ("H", "O", "Fe")
    assert found.both_covered.tolist() == [False, True, False]
    assert found.mean == -0.5
    assert np.isnan(found.correlation_z2)
    assert found.rows()[0] == {"element": "H", "z": 1, "first": -1.0, "second": None, "difference": None, "both_covered": False}
    with pytest.raises(ReferencesError, match="neither table"):
        compare(AtomRef.from_energies({}), AtomRef.from_energies({}))


def test_energies_are_extensive_and_exact():
    refs = AtomRef.from_energies(TRUTH)
    frames = frames_of([{"Na": 1, "Cl": 1}, {"Na": 32, "Cl": 32}, {"Fe": 1}], [0, 0, 0])
    energies = refs.energy(frames)
    assert energies.dtype == np.float64
    np.testing.assert_allclose(energies, [-4.8, -4.8 * 32, -9.6], rtol=1e-14)
    assert refs.energy(frames[:0]).shape == (0,)


def test_an_unknown_element_is_refused_with_its_frame():
    refs = AtomRef.from_energies({"Na": -1.0})
    with pytest.raises(ReferencesError, match=r"no reference energy for Cl, Fe \(first in frame f1\).*merged_over"):
        refs.energy(frames_of([{"Na": 1}, {"Na": 1, "Cl": 1}, {"Fe": 1}], [0, 0, 0]))


def test_merging_keeps_what_was_not_determined_named():
    base = AtomRef.from_energies({"Na": -9.0, "Cl": -3.0})
    merged = AtomRef.from_energies({"Na": -1.0}).merged_over(base)
    assert merged.energies == {"Na": -1.0, "Cl": -3.0}
    assert "Cl" in merged.uncovered
    assert "Na" not in merged.uncovered
    assert merged.uncovered_numbers["Cl"] == 17


def test_a_table_keeps_uncovered_values_but_names_them():
    refs = AtomRef.from_table([-1.0, 0.0, np.nan], theory=LevelOfTheory("PBE"))
    assert refs.energies == {"H": -1.0, "He": 0.0}
    assert refs.uncovered[:3] == ("He", "Li", "Be")


def test_json_returns_the_same_table(rng, tmp_path):
    frames = planted(rng)
    both = frames_of([{"Mg": 1, "S": 1}], [-9.0])
    for refs in (
        fit_references(frames),
        fit_references(both).merged_over(AtomRef.from_energies({"U": -11.0})),
        fit_references(frames, kind="robust"),
    ):
        refs.save(tmp_path / "deep" / "references.json")
        again = AtomRef.load(tmp_path / "deep" / "references.json")
        for name in ("values", "stds", "covered", "material_counts", "frame_counts"):
            np.testing.assert_array_equal(getattr(again, name), getattr(refs, name))
        assert again.to_dict() == refs.to_dict()
        assert again.theory == refs.theory
        assert again.undetermined == refs.undetermined
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["references.json"]


def test_json_has_no_numbers_that_json_has_not():
    refs = fit_references(frames_of([{"Na": 1, "Cl": 1}], [-7.0]))
    fields = json.loads(json.dumps(refs.to_dict(), allow_nan=False))
    assert fields["std"] == {"Na": None, "Cl": None}
    assert fields["held_out_mae"] is None
    assert AtomRef.from_dict(fields).std == {"Na": np.inf, "Cl": np.inf}


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"format": 99, "energies": {}}', '{"format": 1, "energies": {"Xx": 1}}'])
def test_a_file_that_holds_no_references_is_named(tmp_path, text):
    path = tmp_path / "references.json"
    path.write_text(text)
    with pytest.raises(ReferencesError, match=r"references\.json \(not references of format 1\)"):
        AtomRef.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReferencesError, match=r"none\.json \(No such file"):
        AtomRef.load(tmp_path / "none.json")


def test_bad_values_are_refused():
    with pytest.raises(ReferencesError, match="'Xx' is no element"):
        AtomRef.from_energies({"Xx": 1.0})
    with pytest.raises(ReferencesError, match="coverage flags"):
        AtomRef.from_table([1.0, 2.0], [True])
    with pytest.raises(ReferencesError, match="'values' has shape"):
        AtomRef(np.zeros(3), np.zeros(119))


def test_the_arrays_cannot_be_changed():
    refs = AtomRef.from_energies(TRUTH)
    with pytest.raises(ValueError, match="read-only"):
        refs.values[1] = 0.0
