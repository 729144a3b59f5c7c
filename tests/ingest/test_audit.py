import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from data.made import crystals
from xclimb.data.frames import Frames
from xclimb.ingest.audit import Limits
from xclimb.ingest.audit import audit as audit_all


def audit(*args, **named):
    """Every check but that for labels: most frames here are structures."""
    return audit_all(*args, **named, checks={"unlabelled": "off"})


def test_structures_are_no_data():
    one, other = crystals(sizes=(2,)), Frames.from_ase(bulk("Cu"))
    assert audit_all(one) == []
    [reject] = audit_all(other)
    assert (reject.reason, reject.action) == ("no label", "reject")
    [reject] = audit_all(other, checks={"unlabelled": "warn"})
    assert reject.action == "warn"


def changed(column, where, value):
    """Four sound frames (atoms 0 | 1 2 | 3 4 5 | 6) of which one entry of one column is spoilt."""
    frames = crystals(sizes=(1, 2, 3, 1))
    values = np.array(getattr(frames, column))
    values[where] = value
    return frames.replace(**{column: values})


@pytest.mark.parametrize(
    ("frames", "bad", "reason", "detail"),
    [
        (changed("positions", (4, 1), np.nan), 2, "positions are not finite", "NaN"),
        (changed("cells", (1, 0, 0), np.inf), 1, "cell is not finite", "infinity"),
        (changed("cells", 1, 0.0), 1, "singular cell", "periodic, but"),
        (changed("cells", (1, 2), [8.0, 4.0, 0.0]), 1, "singular cell", "span 0 Å"),
        (changed("cells", 3, 0.1 * np.eye(3)), 3, "cell too small", "Å^3 an atom"),
        (changed("cells", 3, np.diag([0.3, 9.0, 9.0])), 3, "overlapping atoms", "0.300 Å from its own periodic image"),
        (changed("numbers", 5, 0), 2, "unknown element", "atomic number 0"),
        (changed("numbers", 5, 119), 2, "unknown element", "atomic number 119"),
        (changed("positions", 1, [1.7, 0, 0]), 1, "overlapping atoms", "two atoms 0.300 Å apart"),
        (changed("positions", 3, [11.8, 4.0, -8.0]), 2, "overlapping atoms", "two atoms 0.200 Å apart"),
        (changed("energy", 0, np.inf), 0, "energy is not finite", "inf eV"),
        (changed("energy", 0, -2e4), 0, "energy too large", "-20000 eV/atom"),
        (changed("forces", (2, 1), np.nan), 1, "forces are incomplete", "some of the forces"),
        (changed("forces", 6, np.inf), 3, "forces are incomplete", "some of the forces"),
        (changed("forces", 0, 80.0), 0, "force too large", "138.6 eV/Å"),
        (changed("stress", (2, 0, 1), np.nan), 2, "stress is incomplete", "components"),
        (changed("stress", (2, 0, 0), -16.0), 2, "stress too large", "kbar or GPa"),
        (changed("magmoms", 2, np.inf), 1, "magmoms are not finite", "infinite"),
        (changed("magmoms", 2, 50.0), 1, "magmom too large", "50 µB"),
    ],
)
def test_each_fault_is_found_named_and_numbered(frames, bad, reason, detail):
    [reject] = audit(frames, first=100, file="a.extxyz")
    assert (reject.frame_id, reject.index, reject.reason, reject.file) == (f"f{bad}", 100 + bad, reason, "a.extxyz")
    assert detail in reject.detail


def test_sound_frames_and_missing_labels_pass():
    assert audit(crystals(copies=5)) == []
    assert audit(changed("magmoms", 2, np.nan)) == []  # moments may be known for some atoms only
    frames = crystals().replace(energy=None, forces=None, stress=None, magmoms=None)
    assert audit(frames) == []
    assert audit(Frames.empty()) == []


def test_frames_without_atoms():
    frames = Frames.from_ase([Atoms(), bulk("Cu"), Atoms()])
    assert [(reject.index, reject.reason) for reject in audit(frames)] == [(0, "no atoms"), (2, "no atoms")]


def test_all_kinds_of_boundaries():
    slab = Atoms("H2", [[0, 0, 0], [0, 0, 0.3]], cell=[3, 3, 0], pbc=[True, True, False])
    wire = Atoms("H2", [[0, 0, 0], [2.9, 0, 0]], cell=[3, 0, 0], pbc=[True, False, False])
    free = Atoms("H2", [[0, 0, 0], [2.9, 0, 0]], cell=[3, 3, 3], pbc=False)
    good = [molecule("H2O"), bulk("Cu"), free]
    assert [reject.index for reject in audit(Frames.from_ase([slab, wire, *good]))] == [0, 1]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from([(1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 0, 0)]))
def test_shortest_distances_do_not_depend_on_the_choice_of_the_cell(seed, slant, pbc):
    rng = np.random.default_rng(seed)
    cell = rng.uniform(-1, 1, (3, 3)) + 4.0 * np.eye(3)
    positions = rng.uniform(-8, 8, (5, 3))
    images = np.array([(i, j, k) for i in range(-8, 9) for j in range(-8, 9) for k in range(-8, 9)]) * pbc
    pairs = positions[:, None] - positions[None, :]
    distances = np.linalg.norm(pairs[..., None, :] + np.unique(images, axis=0) @ cell, axis=-1)
    shortest = distances[~np.eye(5, dtype=bool)].min()  # the cell's own vectors are longer than 2 Å
    if pbc[2]:
        cell[2] += slant * cell[0]  # the same lattice, in a thin and slanted cell
    rejects = audit(Frames.from_ase(Atoms("H5", positions, cell=cell, pbc=pbc)), Limits(distance=1.5))
    assert bool(rejects) == (shortest < 1.5)
    if rejects:
        assert f"two atoms {shortest:.3f} Å apart" in rejects[0].detail


def test_a_cell_far_too_thin_costs_no_time():
    thin = Atoms("H", cell=[[1000.0, 0, 0], [999.9, 1e-3, 0], [0, 0, 1000.0]], pbc=True)
    [reject] = audit(Frames.from_ase(thin))
    assert reject.reason == "overlapping atoms"


def test_large_frames():
    frames = Frames.from_ase(bulk("Cu", cubic=True) * (9, 9, 9))
    assert audit(frames) == []
    positions = frames.positions.copy()
    positions[-1] = positions[1000] + [0.1, 0, 0]
    assert [reject.reason for reject in audit(frames.replace(positions=positions))] == ["overlapping atoms"]


def test_limits_can_be_set():
    frames = changed("forces", 0, 80.0)
    assert audit(frames, Limits(force=200.0)) == []
