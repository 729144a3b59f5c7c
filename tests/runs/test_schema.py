"""Files on disk against their schema: a wrong type is named by file and key."""

import json
from functools import cache

import pytest

from data.made import crystals
from xclimb.comparison.shift import shift
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.report import read_folder, write_report


@cache
def text() -> str:
    high = crystals(copies=3)
    low = high.replace(energy=high.energy - 0.3 * high.n_atoms, theory=LevelOfTheory("PBE"))
    return json.dumps(shift(low, high.replace(theory=LevelOfTheory("r2SCAN"))).to_dict())


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        (("mean",), "much", "mean"),
        (("mean",), 10**400, "mean"),
        (("n_pairs",), None, "n_pairs"),
        (("n_pairs",), -1, "n_pairs"),
        (("elements",), [1.0], "elements"),
        (("element_std",), None, "element_std"),
        (("families", 0, "mean"), [0.1], "families.0.mean"),
        (("intervals", "mean"), [0.1], "intervals.mean"),
        (("reference_depth", "n_materials"), "all", "reference_depth.n_materials"),
        (("importance",), {"target": "difference"}, "importance"),
        (("stability",), {"material_id": ["m"]}, "stability"),
        (("element_data",), {}, "element_data lacks"),
        (("left_over",), [], "left_over has 0 entries"),
        (("notes",), KeyError, "notes"),
    ],
)
def test_a_wrong_value_in_a_shift_is_named(key, value, named, tmp_path):
    content = json.loads(text())
    inner = content
    for name in key[:-1]:
        inner = inner[name]
    if value is KeyError:
        del inner[key[-1]]
    else:
        inner[key[-1]] = value
    (tmp_path / "shift.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        write_report(tmp_path)
    assert "shift.json" in str(error.value)
    assert named in str(error.value)
    assert "run" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_written_fits(tmp_path):
    (tmp_path / "shift.json").write_text(text())
    assert read_folder(tmp_path).report.to_dict() == json.loads(text())


def test_an_older_shift_opens(tmp_path):
    content = {key: value for key, value in json.loads(text()).items() if key not in ("stability", "importance", "scatter_mae")}
    (tmp_path / "shift.json").write_text(json.dumps(content))
    assert read_folder(tmp_path).report.stability == {}
