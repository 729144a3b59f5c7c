"""Brackets and quotes that do not match cost the record that they are in, and no other."""

import gzip
import io
import json

import numpy as np
import pytest

from ingest.test_mp_json import matpes, nested, record, write
from xclimb.data.store import open_store
from xclimb.errors import DataError
from xclimb.formats.materials_project import spans as json_spans
from xclimb.formats.materials_project.spans import iter_chunks, record_depth
from xclimb.ingest import ingest

N = 9


def nested_text(**how):
    """Nine records, two a material."""
    data = nested(*[record(2 + s % 3, uncorrected_total_energy=-9.0 - s) for s in range(N)])
    return json.dumps(data, **how).encode()


def listed_text(**how):
    """Nine records in a list."""
    return json.dumps([matpes(matpes_id=f"mp-{s}", energy=-9.0 - s) for s in range(N)], **how).encode()


def without(text, place, new=b""):
    return text[:place] + new + text[place + 1 :]


# what is done to a record that lies between two places of a text
DAMAGE = {
    "closing brace of the record": lambda text, begin, end: without(text, text.rindex(b"}", begin, end)),
    "closing brace of the lattice": lambda text, begin, end: without(text, text.index(b"}", begin)),
    "opening brace of the structure": lambda text, begin, end: without(text, text.index(b"{", begin + 1)),
    "one brace too many": lambda text, begin, end: without(text, text.index(b"}", begin), b"}}"),
    "a quote missing": lambda text, begin, end: without(text, text.index(b'"sites', begin)),
    "a quote too many": lambda text, begin, end: without(text, text.index(b'"sites', begin), b'""'),
    "opening brace": lambda text, begin, end: without(text, begin),
    "first key": lambda text, begin, end: without(text, begin + 2, b"?"),
}


@pytest.mark.parametrize("victim", [1, 4, N - 1])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("make", [nested_text, listed_text])
@pytest.mark.parametrize("block", [300, 10**6])
def test_one_broken_record_is_one_reject(tmp_path, monkeypatch, make, damage, victim, block):
    text = make()
    with (tmp_path / "whole.json").open("wb") as file:
        file.write(text)
    with (tmp_path / "whole.json").open("rb") as file:
        spans = [
            span for chunk in iter_chunks(file, record_depth(text)[0], "") for span in (chunk.spans + chunk.begin).tolist()
        ]
    assert len(spans) == N
    (tmp_path / "a.json").write_bytes(DAMAGE[damage](text, *spans[victim]))
    monkeypatch.setattr(json_spans.iter_chunks, "__defaults__", (block, False))
    summary = ingest(tmp_path / "a.json", tmp_path / "store", "r2SCAN")
    told = summary.rejects_path.read_text()
    # at the end of the file the brace of the material may close a record, and the file is told to break off
    assert summary.n_in == N or (victim == N - 1 and summary.n_in <= N + 2), told
    if damage == "closing brace of the record" and summary.n_out == N:
        return
    assert summary.n_out == N - 1, told
    frames = open_store(tmp_path / "store")
    ids = [f"mp-{s // 2}-0-{s % 2}" if make is nested_text else f"mp-{s}" for s in range(N)]
    del ids[victim]
    assert frames.frame_id.tolist() == ids
    if make is nested_text:
        assert frames.material_id.tolist() == [name.removesuffix(name[-4:]) for name in ids]
    assert f",{victim}," in told or victim == N - 1


def test_a_byte_lost_anywhere_costs_one_record_or_two():
    rng = np.random.default_rng(1)
    for make in (nested_text, listed_text):
        text = make(indent=1) if make is nested_text else make()
        depth, _ = record_depth(text)
        for place in rng.integers(len(text) // 3, len(text) - 4, 150).tolist():
            file = io.BytesIO(without(text, place))
            kept = 0
            try:
                for chunk in iter_chunks(file, depth, "a", 700):
                    for begin, end in chunk.spans.tolist():
                        kept += _whole(chunk.text[begin:end])
            except DataError:
                pass
            assert kept >= N - 2, text[place - 40 : place + 10]


def _whole(text):
    try:
        return "structure" in json.loads(text)
    except ValueError:
        return False


@pytest.mark.filterwarnings("ignore:.*frame id")
def test_a_gzip_file_cut_near_its_beginning(tmp_path):
    rng = np.random.default_rng(0)
    many = nested(*[record(5, force=rng.normal(size=(5, 3)).tolist()) for _ in range(40)])
    text = gzip.compress(json.dumps(many).encode())
    for size in (5, 15, 30):
        path = tmp_path / f"cut{size}.json.gz"
        path.write_bytes(text[:size])
        with pytest.raises(DataError, match=rf"cut{size}.json.gz cannot be opened \(.*fetch or write it again"):
            ingest(path, tmp_path / "store", "r2SCAN")
        assert not (tmp_path / "store").exists()
    path.write_bytes(text[:300])
    with pytest.raises(DataError, match=r"none of the 1 frames can be used .1 file cannot be read., see"):
        ingest(path, tmp_path / "store", "r2SCAN")
    assert "cannot be read after record 0" in (tmp_path / "store.rejects.csv").read_text()
    path.write_bytes(text[:2500])
    summary = ingest(path, tmp_path / "cut", "r2SCAN")
    assert summary.reasons == {"file cannot be read": 1}
    assert summary.n_out > 1
    data = tmp_path / "data"
    data.mkdir()
    (data / "cut.json.gz").write_bytes(text[:3000])
    write(data / "whole.json", nested(record(), record(3)))
    summary = ingest(data, tmp_path / "store", "r2SCAN")
    assert summary.n_out >= 2
    assert summary.reasons["file cannot be read"] == 1
