"""A short run of the fuzzer; the long one is ``make fuzz``."""

import os

import pytest
from tests.fuzz import fuzz


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_end_in_one_sentence():
    counts, faults = fuzz(range(15), seed=12)
    assert faults == []
    assert counts.total() == 15
