"""Files of the shapes that other tools write: no wrong refusal, no silent loss, no traceback."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ingest.corpus import every_case, table
from xclimb.data.frames import LABELS
from xclimb.data.store import open_store
from xclimb.errors import XclimbError
from xclimb.ingest import ingest

pytestmark = pytest.mark.filterwarnings("ignore::xclimb.errors.XclimbWarning")


@pytest.mark.parametrize("case", every_case(), ids=lambda case: f"{case.tool}: {case.name}".replace(" ", "-"))
def test_every_case(tmp_path, case):
    (tmp_path / "in").mkdir()
    if case.tool == "fairchem":
        pytest.importorskip("lmdb")
    path = case.write(tmp_path / "in")
    if case.error is not None:
        with pytest.raises(XclimbError, match=case.error) as caught:
            ingest(path, tmp_path / "store", **case.options)
        assert "\n" not in str(caught.value)
        return
    summary = ingest(path, tmp_path / "store", **case.options)
    assert (summary.n_out, dict(summary.reasons)) == (case.kept, case.rejected)
    with summary.rejects_path.open(newline="") as file:
        assert Counter(row["reason"] for row in csv.DictReader(file)) == Counter(case.rejected)
    frames = open_store(tmp_path / "store")
    assert {label for label in LABELS if frames.has(label)} == set(case.labels)
    for label, expected in case.labels.items():
        values = np.ravel(getattr(frames[0], label))[: len(expected)]
        np.testing.assert_allclose(values, expected, atol=1e-7, err_msg=label)


def test_the_document_has_the_table_of_all_cases():
    document = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    stored = document.split("<!-- corpus -->\n")[1].split("\n<!-- /corpus -->")[0]
    assert stored == table(), "run: python docs/build.py"
