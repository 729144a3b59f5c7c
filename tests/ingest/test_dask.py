"""A Dask cluster decodes instead of processes of our own: the store is the same."""

import json

import numpy as np
import pytest

from data.made import crystals, same
from xclimb.data.export import export
from xclimb.data.store import open_store
from xclimb.errors import ConfigError
from xclimb.ingest import ingest

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address():
    """A scheduler and two workers that talk through sockets."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp://", "host": "127.0.0.1"}
    with distributed.LocalCluster(**settings, dashboard_address=None, silence_logs=50) as cluster:
        yield cluster.scheduler_address


def test_the_store_is_the_same_as_without(tmp_path, address):
    frames = crystals(copies=50)
    forces = frames.forces.copy()
    forces[7] = 1e3
    for n in range(4):
        some = frames.replace(forces=forces, frame_id=np.array([f"{n}-{name}" for name in frames.frame_id.tolist()]))
        export(some, tmp_path / f"{n}.{'parquet' if n % 2 else 'extxyz'}")
    (tmp_path / "9.json").write_text('[{"structure": {"lattice": {}, "sites": []}}]')
    paths = sorted(tmp_path.glob("[0-9].*"))
    alone = ingest(paths, tmp_path / "alone", "r2SCAN", checks={"duplicate": "off"})
    shared = ingest(paths, tmp_path / "shared", "r2SCAN", checks={"duplicate": "off"}, scheduler=address)
    assert (shared.n_in, shared.n_out, shared.reasons) == (alone.n_in, alone.n_out, alone.reasons)
    assert shared.n_in == 601
    same(open_store(shared.path, verify=True), open_store(alone.path))
    assert shared.rejects_path.read_text() == alone.rejects_path.read_text()
    entries = [json.loads((path / "manifest.json").read_text())["shards"] for path in (shared.path, alone.path)]
    assert entries[0] == entries[1]


@pytest.mark.filterwarnings("ignore")  # of the connection that does not come about
def test_no_scheduler_at_an_address(tmp_path, monkeypatch):
    export(crystals(), tmp_path / "a.parquet")
    before = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: before(address, timeout="0.3s"))
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        ingest(tmp_path / "a.parquet", tmp_path / "store", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "store").exists()
