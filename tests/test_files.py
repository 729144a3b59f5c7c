"""Writing whole or not at all, and refusing to replace what is no file of ours."""

import os
import socket

import numpy as np
import pytest

from xclimb import files
from xclimb.errors import ConfigError


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "a.txt"
    files.write_file(path, "old")

    def stopped():
        with files.replacing(path) as beside:
            beside.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("swaps", [True, False])
def test_folders_are_exchanged(tmp_path, monkeypatch, swaps):
    if not swaps:  # as on a file system without renameat2
        monkeypatch.setattr(files, "_swapped", lambda new, place: False)
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    files.exchange(tmp_path / "new", tmp_path / "place")
    assert [(tmp_path / name / "which").read_text() for name in ("place", "new")] == ["new", "place"]
    assert sorted(os.listdir(tmp_path)) == ["new", "place"]
    os.rename(tmp_path / "place", tmp_path / ".place.former")  # killed between two renames
    files.restore(tmp_path / "place")
    assert (tmp_path / "place" / "which").read_text() == "new"


def test_what_is_no_regular_file_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.symlink("file", "link")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket")
        kinds = {"folder": "a folder", "link": "a symbolic link", "pipe": "a named pipe", "socket": "a socket"}
        for name, kind in kinds.items():
            with pytest.raises(ConfigError, match=f"{name} is {kind} and is never replaced"):
                files.check_writable(tmp_path / name, overwrite=True)
    with pytest.raises(ConfigError, match="/dev/null is a device"):
        files.check_writable(files.Path("/dev/null"), overwrite=True)
    with pytest.raises(ConfigError, match="exists already"):
        files.check_writable(tmp_path / "file", overwrite=False)
    files.check_writable(tmp_path / "file", overwrite=True)


def test_json_of_arrays_and_of_what_is_not_finite(tmp_path):
    values = {"a": np.array([1.0, np.nan]), 1: np.float64(2.5), "text": np.array(["x", "y"]), "gaps": np.arange(6)[::2]}
    files.write_json(tmp_path / "a.json", values)
    assert files.read_json(tmp_path / "a.json") == {"a": [1.0, None], "1": 2.5, "text": ["x", "y"], "gaps": [0, 2, 4]}
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="depth"):
        files.read_json(tmp_path / "deep.json")


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@sum", "'=1", "\tx"])
def test_cells_are_no_formulas(text):
    cell = files.to_csv([[text]]).strip("\n").strip('"')
    assert cell == f"'{text}"
    assert files.from_cell(cell) == text


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e-3", -3.0, "plain", "'quoted'"])
def test_other_cells_stay(value):
    assert files.to_csv([[value]]) == f"{value}\n"
    assert files.from_cell(str(value)) == str(value)
