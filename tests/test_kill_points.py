"""Killed before any file event, a command given again makes what it would have made undisturbed."""

import os

import pytest
from tests.kill_points import Ingest, Transfer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.mark.parametrize("kind", ["new", "overwrite", "append"])
def test_an_ingest_killed_before_any_event(tmp_path, kind):
    job = Ingest(tmp_path, kind)
    assert job.events > len(job.states) > 40
    assert job.sweep() == []


def test_a_transfer_killed_before_some_events(tmp_path):
    job = Transfer(tmp_path)
    assert job.events > len(job.states) > 40
    assert job.sweep(8) == []
