"""Killed before any file event, a command given again makes what it would have made undisturbed."""

import os
import random

import pytest
from tests.kill_points import Ingest, Transfer, sweep

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.mark.parametrize("kind", ["new", "overwrite", "append"])
def test_an_ingest_killed_before_any_event_of_its_end_and_some_of_the_rest(tmp_path, kind):
    job = Ingest(tmp_path, kind)
    rest = job.events - 45  # the last ones write the store, exchange it and clean up
    chosen = [*random.Random(kind).sample(range(1, rest), 8), *range(rest, job.events + 1)]
    assert sweep(job, chosen) == []


def test_a_transfer_killed_before_some_events(tmp_path):
    job = Transfer(tmp_path)
    chosen = random.Random(0).sample(range(15, job.events - 20), 5)
    assert sweep(job, [*range(1, 15, 3), *chosen, *range(job.events - 20, job.events + 1, 4)]) == []
