"""Damaged stores, odd numbers, closed outputs and narrow locales: one sentence, or nothing to say."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.made import crystals
from xclimb.cli import app
from xclimb.data.store import open_store
from xclimb.data.store_writer import write_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_store(crystals(copies=3), tmp_path / "store")


def refused(*words: str) -> str:
    told = CliRunner().invoke(app, [str(word) for word in words], prog_name="xclimb")
    assert told.exit_code == 2, told.output
    assert "This is a bug" not in told.output
    return " ".join(told.stderr.split())


def damage(store: Path) -> None:
    """Turn one bit of the last number."""
    file = store / "atoms-00000.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def test_no_copy_of_a_damaged_store(store):
    shutil.copytree(store, "sound")
    damage(store)
    told = "store/atoms-00000.arrow does not have the checksum of the manifest: damaged or changed, restore it from a copy"
    for words in (
        ("ingest", "store", "--out", "new"),
        ("ingest", "sound", "store", "--out", "new"),
        ("ingest", "sound", "--append", "--out", "store"),
        ("export", "store", "new.extxyz"),
        ("split", "store"),
        ("inspect", "store"),
    ):
        assert told in refused(*words), words
    assert sorted(os.listdir()) == ["sound", "store"]


def test_a_large_store_is_opened_with_a_warning(store, monkeypatch):
    damage(store)
    monkeypatch.setattr("xclimb.data.store.QUICK", 100)
    with pytest.warns(UserWarning, match="without comparing checksums: verify=True"):
        open_store(store)
    open_store(store, verify=False)


DAMAGED = {
    "deep split": ("split.json", "[" * 100_000, ("inspect", "store:train"), "split.json"),
    "split of numbers": ("split.json", '{"train": 1, "val": 2, "test": 3}', ("inspect", "store:train"), "split.json"),
    "manifest without shards": ("manifest.json", {"shards": None}, ("inspect", "store"), "manifest.json is damaged (shards"),
    "manifest of wrong counts": ("manifest.json", {"frames": "many"}, ("inspect", "store"), "damaged (frames"),
    "theory of a number": ("manifest.json", {"theory": {"functional": 5}}, ("inspect", "store"), "functional cannot be 5"),
    "deep settings": ("config.yaml", "a: " + "[" * 5000, ("transfer", "store", "--config", "store/config.yaml"), "config.yaml"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_of_ours(store, name):
    file, content, words, told = DAMAGED[name]
    if isinstance(content, dict):
        content = json.dumps(json.loads((store / file).read_text()) | content)
    (store / file).write_text(content)
    assert told in refused(*words)


def test_a_table_of_rejects_that_is_none(store):
    shutil.copytree("store", "sound")
    for content in (b"\xac\xff", b"no,such,columns\n1,2,3\n"):
        (store / "rejects.csv").write_bytes(content)
        assert "rejects.csv is no table of rejects" in refused(
            "ingest", "sound", "--append", "--out", "store", "--workers", "1"
        )


def test_a_shard_of_another_folder(store):
    text = (store / "manifest.json").read_text()
    shutil.copy(store / "atoms-00000.arrow", "atoms-00000.arrow")
    (store / "manifest.json").write_text(text.replace("atoms-00000.arrow", "../atoms-00000.arrow"))
    assert "shards.0.files.atom.name" in refused("inspect", "store")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("split", "store", "--seed", "-1"), "seed"),
        (("ingest", "store", "--out", "new", "--workers", "-3"), "workers"),
        (("ingest", "store", "--out", "new", "--limit", "force=nan"), "limit force cannot be nan"),
        (("ingest", "store", "--out", "store", "--append"), "cannot be appended to itself"),
        (("export", "store", "/dev/null", "--format", "extxyz", "--overwrite"), "/dev/null is a device"),
        (("inspect", "store", "--json", "/dev/null"), "/dev/null is a device"),
    ],
)
def test_odd_words(store, words, told):
    assert told in refused(*words)


def test_a_full_disk_is_named(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("xclimb.data.shard_writer.ShardWriter.append", full)
        told = refused("ingest", "store", "--out", "new", "--workers", "1")
    assert f"the disk of {Path.cwd()} is full" in told
    assert "the same command again" in told
    assert CliRunner().invoke(app, ["ingest", "store", "--out", "new", "--workers", "1"]).exit_code == 0


def shell(line: str, **more: str) -> subprocess.CompletedProcess:
    home = Path(__file__).parents[2] / "src"
    program = f"{sys.executable} -c 'from xclimb.cli import main; main()'"
    environment = os.environ | {"PYTHONPATH": str(home)} | more
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + line.replace("xclimb", program)], capture_output=True, env=environment
    )


def test_narrow_locales_and_closed_outputs(store):
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = shell("xclimb inspect store && xclimb --help", **ascii_only)
    assert told.returncode == 0, told.stderr
    lines = {
        "xclimb inspect store | true": (0, 141),
        "xclimb transfer --help | head -1": (0, 141),
        "xclimb inspect store >&-": (0,),
    }
    for line, status in lines.items():
        told = shell(line)
        assert told.returncode in status, told.stderr
        assert told.stderr == b"", line
