"""Frames made for tests: a strategy for every shape of data, and a few fixed ones."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory

NAMES = st.text("abcXYZ019-/_ ÅµΩ", min_size=1, max_size=8)
NUMBERS = st.floats(-50, 50, allow_nan=False, width=64)


@st.composite
def frames_sets(draw, max_frames=5, whole_labels=False, extras=True):
    """Frames of any sizes, elements, periodicity; labels present, missing, or there for some frames only."""
    size = draw(st.integers(0, max_frames))
    counts = np.array(draw(st.lists(st.integers(1, 4), min_size=size, max_size=size)), dtype=np.int64)
    total = int(counts.sum())
    cells = draw(hnp.arrays(float, (size, 3, 3), elements=st.floats(-1, 1))) + 8.0 * np.eye(3)

    def label(scope, *shape):
        rows = size if scope == "system" else total
        values = draw(hnp.arrays(float, (rows, *shape), elements=NUMBERS))
        has = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool)
        values[~(has if scope == "system" else np.repeat(has, counts))] = np.nan
        return values

    stress = label("system", 3, 3)
    kinds = {"source": st.sampled_from(["wbm", "µ", ""]), "rank": st.integers(-9, 9), "sigma": NUMBERS, "flag": st.booleans()}
    kinds["charge"] = st.integers(-3, 3)
    chosen = draw(st.sets(st.sampled_from(sorted(kinds)))) if extras and size else set()
    ids = draw(st.lists(NAMES, min_size=size, max_size=size, unique=True))
    materials = draw(st.lists(NAMES, min_size=size, max_size=size))
    return Frames(
        numbers=draw(hnp.arrays(np.int32, total, elements=st.integers(1, 118))),
        positions=draw(hnp.arrays(float, (total, 3), elements=NUMBERS)),
        cells=cells,
        pbc=draw(hnp.arrays(bool, (size, 3))),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        energy=label("system"),
        forces=label("atom", 3),
        stress=0.5 * (stress + stress.swapaxes(1, 2)),
        magmoms=label("atom"),
        frame_id=np.array(ids, dtype=np.str_),
        material_id=np.array(materials, dtype=np.str_),
        theory=draw(
            st.sampled_from([LevelOfTheory(), LevelOfTheory("r2SCAN", code="VASP"), LevelOfTheory("PBE+U", {"Fe": 5.3})])
        ),
        extras={name: np.array(draw(st.lists(kinds[name], min_size=size, max_size=size))) for name in chosen},
    )


def crystals(sizes=(1, 2, 3), copies=1, materials=None, numbers=None, functional="r2SCAN") -> Frames:
    """Simple frames with labels that can all be used: atoms 2 Å apart along x in a long cell."""
    sizes = np.array(list(sizes) * copies)
    total = int(sizes.sum())
    start = np.repeat(np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    size = len(sizes)
    rng = np.random.default_rng(0)
    return Frames(
        numbers=np.array(numbers) if numbers is not None else np.resize([11, 17, 8], total),
        positions=np.stack([2.0 * (np.arange(total) - start), np.zeros(total), np.zeros(total)], axis=1),
        cells=np.stack([np.diag([2.0 * n + 2.0, 4.0, 4.0]) for n in sizes]),
        pbc=np.ones((size, 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        energy=-4.0 * sizes,
        forces=rng.normal(size=(total, 3)),
        stress=np.tile(0.01 * np.eye(3), (size, 1, 1)),
        magmoms=rng.normal(size=total),
        frame_id=np.array([f"f{s}" for s in range(size)]),
        material_id=None if materials is None else np.array(materials),
        theory=LevelOfTheory(functional),
    )


def same(one: Frames, other: Frames) -> None:
    """Assert that two sets are the same in every column, extras and level of theory included."""
    from xclimb.data.frames import COLUMNS

    for name in (*COLUMNS, "offsets"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.theory == other.theory
    assert set(one.extras) == set(other.extras)
    for name, values in one.extras.items():
        np.testing.assert_array_equal(values, other.extras[name], err_msg=name)
        assert values.dtype.kind == other.extras[name].dtype.kind
