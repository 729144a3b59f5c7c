"""The guard of each quantity: nothing is handed over that is worse than step 0 on the validation materials, beyond noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.tiny import rock_salts, toy
from xclimb.references import AtomRef
from xclimb.transfer.guard import Change, choose
from xclimb.transfer.weights import interpolate


@pytest.fixture(scope="module")
def frames():
    """Frames of twelve materials, labelled by a potential whose weights lie beyond step 0."""
    made = rock_salts(24, seed=3)
    made = made.replace(material_id=np.array([f"m{k % 12}" for k in range(24)]))
    return moved(1.0).label(made)


def moved(share, magmom=0.0):
    """The toy with weights of its readout moved along a fixed direction, those of the magnetic head along another."""
    potential = toy().copy()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in potential.model.named_parameters():
            size = magmom if name.startswith("magmom") else share if name.startswith("readout") else 0.0
            value += size * 0.05 * torch.randn(value.shape, generator=generator)
    return potential


def test_a_point_beyond_the_optimum_is_taken_back(frames):
    start, far = toy(), moved(2.0)
    choice = choose("each", start, (7, far), (7, far), frames)
    assert (choice.epoch, choice.share) == (7, 0.5)
    weights, wanted = choice.potential.model.state_dict(), moved(1.0).model.state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-5)


def test_first_keeps_the_whole_way_where_nothing_is_worse(frames):
    start, far = toy(), moved(1.3)
    assert choose("each", start, (7, far), (7, far), frames).share < 1
    assert choose("first", start, (7, far), (7, far), frames).share == 1.0
    broken = moved(1.3, magmom=40.0)
    assert choose("first", start, (7, broken), (7, broken), frames).share < 1


def test_what_got_worse_is_named_and_not_kept(frames):
    start, broken = toy(), moved(1.0, magmom=40.0)
    each = choose("each", start, (5, broken), (5, broken), frames)
    assert not any(change.is_worse for change in each.changes)
    assert [change.quantity for change in each.refused] == ["magmom"]
    assert "magnetic moments" in each.notes[0]
    assert "kept (guard 'each')" in each.notes[0]
    summed = choose("sum", start, (5, broken), (5, broken), frames)
    assert (summed.epoch, summed.share) == (5, 1.0)
    assert summed.notes == [f"Worse than step 0 on the validation materials: {each.refused[0]}."]
    record = summed.to_dict()
    assert [row["quantity"] for row in record["changes"] if row["is_worse"]] == ["magmom"]


def test_step_0_is_kept_where_every_point_is_worse(frames):
    start = moved(1.0)  # exact
    choice = choose("each", start, (9, moved(3.0, magmom=9.0)), (0, start), frames)
    assert (choice.epoch, choice.share) == (0, 0.0)
    assert choice.potential is start


def test_the_last_epoch_is_kept_unless_another_is_better_beyond_noise(frames):
    start, far = toy(), moved(1.02)
    near = choose("each", start, (9, far), (4, moved(1.0)), frames.replace(material_id=np.array(["a", "b"] * 12)))
    assert (near.epoch, near.share) == (9, 1.0)  # two materials allow no interval
    assert choose("each", start, (9, moved(1.8)), (4, moved(1.0)), frames).epoch == 4
    assert choose("sum", start, (9, far), (4, moved(1.0)), frames).epoch == 4


def test_noise_is_not_worse():
    assert not Change("forces", 100.0, 102.0, -1.0, 5.0).is_worse
    assert Change("forces", 100.0, 103.0, 0.5, 5.5).is_worse
    assert not Change("magmom", 1e-4, 3e-4, 1e-4, 3e-4).is_worse  # below the precision of labels
    nan = float("nan")
    assert not Change("forces", 100.0, 104.0, nan, nan).is_worse  # too few materials for an interval
    assert Change("forces", 100.0, 106.0, nan, nan).is_worse


def test_references_lie_on_the_line():
    start, end = toy(), moved(1.0)
    end = end.with_references(AtomRef.from_table(np.full(94, -12.0), theory=end.theory))
    values = interpolate(start, end, 0.25).references.values
    assert values[11] == pytest.approx(-10.5)


def test_only_what_is_labelled_is_judged(frames):
    bare = frames.replace(magmoms=np.full_like(frames.magmoms, np.nan))
    choice = choose("each", toy(), (5, moved(1.0, magmom=40.0)), (0, toy()), bare)
    assert [change.quantity for change in choice.changes] == ["energy", "forces", "stress"]
    assert replace(choice, changes=()).notes == []
