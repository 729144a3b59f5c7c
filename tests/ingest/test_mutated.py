"""Two hundred mutated files: a clear error or named rejects, never another exception, and every frame counted."""

import json

import numpy as np
import pytest

from ingest.test_mp_json import nested, record
from xclimb.data.store import open_store
from xclimb.errors import XclimbError
from xclimb.ingest import ingest

N = 8


def mutated(kind, rng):
    """Text of a file with eight frames, spoilt in one way; None where the number of frames is no longer known."""
    data = nested(*[record(int(n), uncorrected_total_energy=-5.0 - s) for s, n in enumerate(rng.integers(1, 6, N))])
    frames = [one for many in data.values() for one in many.values()]
    victim = frames[rng.integers(N)]
    key = rng.choice(["structure", "force", "stress", "magmom", "uncorrected_total_energy", "mp_id"])
    if kind == "wrong type":
        victim[key] = [None, "text", {"a": 1}, [], True, [[[1]]], 1e400][rng.integers(7)]
    elif kind == "swapped":
        other = rng.choice(["structure", "force", "stress", "uncorrected_total_energy"])
        victim[key], victim[other] = victim[other], victim[key]
    elif kind == "nan":
        victim["force"][0] = [float("nan"), 1.0, 2.0]
    elif kind == "huge":
        victim["force"] = [[1e308, -1e308, 1.0]] * 2000
    elif kind == "deep":
        site = victim["structure"]["sites"][0]
        site[rng.choice(["species", "abc", "label"])] = [None, "x", [], {}, [{}], [1, 2]][rng.integers(6)]
    text = json.dumps(data).encode()
    if kind == "truncated":
        return text[: rng.integers(1, len(text))], None
    if kind == "byte":
        place = int(rng.integers(len(text)))
        return text[:place] + bytes([rng.integers(256)]) + text[place + 1 :], None
    if kind == "cut out":
        place, length = int(rng.integers(len(text))), int(rng.integers(1, 400))
        return text[:place] + text[place + length :], None
    return text, N


KINDS = ["wrong type", "swapped", "nan", "huge", "deep", "truncated", "byte", "cut out"]


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(tmp_path, kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for n in range(25):
        text, frames = mutated(kind, rng)
        path, store = tmp_path / f"m{n}.json", tmp_path / f"s{n}"
        path.write_bytes(text)
        summary, error = None, ""
        try:
            summary = ingest(path, store, "r2SCAN", checks={"duplicate": "off"})
        except XclimbError as problem:
            error = str(problem)
        if summary is None:
            assert f"m{n}.json" in error or "rejects.csv" in error
            assert "\n" not in error
            assert not store.exists()
            continue
        listed = summary.rejects_path.read_text().count("\n") - 1
        assert summary.n_in == summary.n_out + summary.n_rejected
        assert (len(open_store(store)), listed) == (summary.n_out, summary.n_rejected)
        assert frames is None or summary.n_in == frames
        assert summary.n_out >= (N - 2 if kind in ("byte", "cut out") else 1)  # the neighbours of what is broken are kept
        if kind in ("nan", "huge"):
            assert summary.n_rejected == 1
