"""An ingest that is killed leaves nothing that looks finished, and goes on to the very store it would have made."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest.test_mp_json import nested, record, write
from xclimb.data.store import open_store, read_manifest
from xclimb.errors import DataError
from xclimb.ingest import Limits, ingest, retry
from xclimb.ingest.tasks import run_task

FILES = ["manifest.json", "systems-00000.arrow", "atoms-00000.arrow", "rejects.csv", "warnings.csv"]


def many_files(tmp_path):
    """Several files with good frames, a bad one each, a name that occurs again, and a frame that occurs twice."""
    data = tmp_path / "data"
    data.mkdir()
    for n in range(6):
        shifted = [record(2, uncorrected_total_energy=-9.0 - n - 0.1 * k) for k in range(7)]
        bad = record(force=[[1e9, 0.0, 0.0]] * 2)
        write(data / f"f{n}.json", nested(*shifted, bad, shifted[0]))
    return data


def interrupt(monkeypatch, data, store, stop_after):
    """Ingest with a checkpoint after every task, until so many are done."""
    left = iter(range(stop_after))

    def killed(task):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run_task(task)

    monkeypatch.setattr("xclimb.ingest.receiver._BETWEEN", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr("xclimb.ingest.executor.run_task", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(data, store, "r2SCAN")


def content(store):
    return {name: (store / name).read_bytes() for name in FILES}


@pytest.mark.filterwarnings("ignore:.*frame id")
@pytest.mark.parametrize("stop_after", [0, 1, 3, 5])
def test_interrupted_anywhere_the_result_is_the_same(tmp_path, monkeypatch, stop_after):
    data = many_files(tmp_path)
    ingest(data, tmp_path / "whole", "r2SCAN")
    interrupt(monkeypatch, data, tmp_path / "store", stop_after)
    assert not (tmp_path / "store").exists()
    work = tmp_path / ".store.unfinished"
    for scratch in work.glob("*.scratch"):  # what was written behind the last checkpoint does not count
        with scratch.open("ab") as file:
            file.write(b"torn")
    summary = ingest(data, tmp_path / "store", "r2SCAN")
    assert summary.resumed == stop_after
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (54, 48, 6)
    assert summary.warned == {"duplicate": 6}
    assert content(tmp_path / "store") == content(tmp_path / "whole")
    assert not work.exists()


def test_files_opened_after_the_last_checkpoint_do_not_count(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    frames = [record(2, uncorrected_total_energy=-9.0 - n) for n in range(3)]
    for n, last in enumerate((frames[0], frames[1], frames[0])):  # only the last file opens warnings.csv
        write(data / f"f{n}.json", nested(last, record(2, uncorrected_total_energy=-20.0 - n)))
    with pytest.warns(UserWarning, match="frame id"):
        ingest(data, tmp_path / "whole", "r2SCAN")
    interrupt(monkeypatch, data, tmp_path / "store", stop_after=2)
    work = tmp_path / ".store.unfinished"
    assert not (work / "warnings.csv").exists()
    for name in ("warnings.csv", "00001-energy.scratch", "00001-text.scratch"):
        (work / name).write_bytes(b"torn")
    with pytest.warns(UserWarning, match="frame id"):
        assert ingest(data, tmp_path / "store", "r2SCAN").resumed == 2
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_names_that_a_spreadsheet_would_calculate_are_tried_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [record(2, uncorrected_total_energy=-9.0), record(force=[[60.0, 0.0, 0.0]] * 2)]
    write(Path("=1+1.json"), nested(*frames))
    assert ingest("=1+1.json", "store", "r2SCAN", limits=Limits(force=50.0)).reasons == {"force too large": 1}
    assert "'=1+1.json" in Path("store/rejects.csv").read_text()
    again = retry("store/rejects.csv", limits=Limits(force=100.0))
    assert (again.n_in, again.n_out, again.n_rejected) == (1, 1, 0)


@pytest.mark.filterwarnings("ignore:.*frame id")
def test_another_job_begins_anew(tmp_path, monkeypatch):
    data = many_files(tmp_path)
    interrupt(monkeypatch, data, tmp_path / "store", stop_after=3)
    summary = ingest(data, tmp_path / "store", "r2SCAN", checks={"duplicate": "reject"})
    assert (summary.resumed, summary.n_in, summary.n_out) == (0, 54, 54 - 6 - 6)


@pytest.mark.filterwarnings("ignore:.*frame id")
def test_killed_by_the_system(tmp_path):
    data = many_files(tmp_path)
    whole = ingest(data, tmp_path / "whole", "r2SCAN", workers=2)
    script = (
        "import warnings; warnings.simplefilter('ignore'); import time; import xclimb.ingest.receiver as r; r._BETWEEN = 0.0\n"
        "import xclimb.ingest.executor as e; run = e.run_task; e.run_task = lambda task: (time.sleep(0.1), run(task))[1]\n"
        f"from xclimb.ingest import ingest; ingest({str(data)!r}, {str(tmp_path / 'store')!r}, 'r2SCAN')"
    )
    running = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(Path("src").resolve())})
    journal = tmp_path / ".store.unfinished" / "journal.jsonl"
    for _ in range(600):
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "store").exists()
    summary = ingest(data, tmp_path / "store", "r2SCAN")
    assert summary.resumed >= 2
    assert (summary.n_out, summary.reasons) == (whole.n_out, whole.reasons)
    assert content(tmp_path / "store") == content(tmp_path / "whole")
    open_store(tmp_path / "store", verify=True)


def test_workers_end_when_the_process_they_work_for_is_killed():
    script = (
        "import time; from xclimb.ingest.executor import workers_of\n"
        "with workers_of(2, None) as (pool, n): print(list(pool.map(abs, [-1] * 4)), flush=True); time.sleep(60)"
    )
    how = {"env": os.environ | {"PYTHONPATH": str(Path("src").resolve())}, "start_new_session": True}
    running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, **how)
    assert running.stdout.readline() == "[1, 1, 1, 1]\n"
    running.send_signal(signal.SIGKILL)
    running.communicate()
    for _ in range(200):
        try:
            os.killpg(running.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    pytest.fail("a worker is left")


@pytest.mark.filterwarnings("ignore:.*frame id")
def test_append_and_retry(tmp_path):
    data = many_files(tmp_path)
    store = tmp_path / "store"
    ingest(data / "f0.json", store, "r2SCAN")
    with pytest.raises(DataError, match="no store to append to"):
        ingest(data / "f1.json", tmp_path / "none", append=True)
    summary = ingest(data / "f1.json", store, "r2SCAN", append=True)
    assert (summary.n_out, summary.n_rejected) == (16, 2)
    assert [source["name"] for source in read_manifest(store)["provenance"]["sources"]] == ["f0.json", "f1.json"]
    again = retry(store / "rejects.csv")
    assert (again.n_in, again.n_out, again.n_rejected) == (2, 0, 2)
    write(data / "f0.json", nested(*[record(2, uncorrected_total_energy=-9.0 - 0.1 * k) for k in range(9)]))
    again = retry(store / "rejects.csv")
    assert (again.n_in, again.n_out, again.n_rejected) == (2, 1, 1)
    assert len(open_store(store, verify=True)) == 17
    again = retry(store / "rejects.csv", limits=Limits(force=1e10))
    assert (again.n_in, again.n_out, again.n_rejected) == (1, 1, 0)
    with pytest.raises(DataError, match="nothing to try again"):
        retry(store / "rejects.csv")
