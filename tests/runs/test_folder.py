import numpy as np
import pytest
from pydantic import ValidationError

from report.synthetic import epoch_line, run_record
from training.tiny import rock_salts
from xclimb.errors import CheckpointError, ConfigError, DataError
from xclimb.files import read_json, write_json
from xclimb.runs.folder import RunFolder, describe_data, read_history, read_record, to_builtin, versions


def record(method: str = "x") -> dict:
    """Content of run.json before the folder adds its state."""
    return {name: value for name, value in run_record(method).items() if name != "state"}


def test_json_has_no_nan(tmp_path):
    value = {"a": np.float64("nan"), "b": np.array([1.0, np.inf]), "c": (np.int64(3), None, "x"), 4: np.bool_(True)}
    assert to_builtin(value) == {"a": None, "b": [1.0, None], "c": [3, None, "x"], "4": True}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == to_builtin(value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", ['{"a": ', "[]", "3", '{"method": 3}'])
def test_a_damaged_record_is_named(tmp_path, content):
    with pytest.raises(CheckpointError, match="is missing"):
        read_record(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json is not"):
        RunFolder(tmp_path, resume=True)


def test_what_is_no_line_is_not_written(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start("", record())
    with pytest.raises(ValidationError):
        folder.log({"epoch": 0})
    with pytest.raises(ValidationError):
        folder.update(state="lost")
    assert read_history(tmp_path / "run") == []


def test_history_survives_a_half_written_last_line(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start("", record())
    folder.log(epoch_line(0) | {"x": float("nan")})
    folder.log(epoch_line(1))
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_text(file.read_text() + '{"epoch": 2, "va')
    assert read_history(tmp_path / "run") == [epoch_line(0) | {"x": None}, epoch_line(1)]
    file.write_text('{"epo\n{"epoch": 1}\n')
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_history(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no run folder"):
        read_history(tmp_path)


def test_a_used_folder_is_refused_and_nothing_foreign_is_removed(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="holds no run"):
        RunFolder(tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "letter.txt")
    run = tmp_path / "run"
    first = RunFolder(run)
    first.start("a: 1", record("x"))
    with pytest.raises(ConfigError, match="another process"):
        RunFolder(run, overwrite=True).start("a: 2", record("y"))
    first.release()
    (run / "mine.txt").write_text("keep")
    (run / "evaluation.json").write_text("{}")
    RunFolder(run, overwrite=True).start("a: 2", record("y"))
    assert read_json(run / "run.json") == record("y") | {"state": "running"}
    assert (run / "mine.txt").exists()
    assert not (run / "evaluation.json").exists()


def test_data_are_described_by_counts_and_content():
    frames = rock_salts()
    one, other = describe_data(frames), describe_data(frames.replace(energy=frames.energy + 1e-9))
    assert (one["frames"], one["atoms"], one["materials"]) == (6, 12, 3)
    assert one["sha256"] != other["sha256"]
    assert one == describe_data(frames[np.arange(6)])


def test_versions_name_what_numbers_depend_on():
    assert set(versions()) == {"python", "xclimb", "torch", "numpy", "chgnet", "ase"}
