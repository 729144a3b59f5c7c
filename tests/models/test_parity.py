"""Fifty crystals, three sets of weights: derivatives exact in float64, float32 within the rules, and the function of chgnet."""

import warnings
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import numpy as np
import pytest
import torch

from xclimb.data.frames import Frames
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.testing import STEP, TOLERANCES
from xclimb.units import gpa_to_ev_a3

from .crystals import SKEWED, crystals

NAMES = ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan")
EXACT = TOLERANCES["float64"]


@cache
def frames() -> Frames:
    return Frames.from_ase(crystals())


@cache
def potential(name: str, dtype: str = "float64") -> Potential:
    return load(name, dtype=dtype)


@cache
def labelled(name: str, dtype: str = "float64") -> Frames:
    return potential(name, dtype).label(frames())


def per_frame(of_atoms: np.ndarray) -> np.ndarray:
    """Largest value of each frame ``[S]``."""
    largest = np.zeros(len(frames()))
    np.maximum.at(largest, frames().system, of_atoms.reshape(len(of_atoms), -1).max(axis=1))
    return largest


def deviations(got: Frames, expected: Frames) -> dict[str, np.ndarray]:
    """Largest deviation of each frame, in the units of the tolerances ``[S]``."""
    return {
        "energy": np.abs(got.energy - expected.energy) / frames().n_atoms,
        "forces": per_frame(np.abs(got.forces - expected.forces)),
        "stress": np.abs(got.stress - expected.stress).max(axis=(1, 2)),
        "magmoms": per_frame(np.abs(got.magmoms - expected.magmoms)),
    }


def require(found: dict[str, np.ndarray], tolerance, what: str) -> None:
    """All within the tolerance; the worst of each is printed (seen with ``pytest -rP``)."""
    for label, values in found.items():
        worst, allowed = int(values.argmax()), getattr(tolerance, label)
        told = f"{what}: worst {label} off by {values[worst]:.2e}, allowed {allowed:.2e}, in {frames().frame_id[worst]}"
        print(told)
        assert values[worst] <= allowed, told


def moved(**columns) -> Frames:
    return frames().replace(**columns)


# -- the crystals themselves --------------------------------------------------------------------------


def test_fifty_diverse_crystals():
    composition = frames().composition() > 0
    elements = np.flatnonzero(composition.any(axis=0))
    assert len(frames()) == 50
    assert len(set(frames().frame_id)) == 50
    assert set(composition.sum(axis=1)) >= {1, 2, 3, 4}
    assert len(elements) > 50
    assert elements.min() == 1
    assert elements.max() == 94
    lengths = np.linalg.norm(frames().cells, axis=2)
    assert frames().n_atoms.min() == 1
    assert frames().n_atoms.max() > 10
    assert (lengths.max(axis=1) < 6).any(), "a cell smaller than the cutoff"
    angles = (frames().cells[:, 0] * frames().cells[:, 1]).sum(axis=1) / (lengths[:, 0] * lengths[:, 1])
    assert np.abs(angles).max() > 0.8, "a skewed cell"
    magnetic = labelled("chgnet-0.3.0").magmoms
    assert (per_frame(magnetic) > 1).sum() >= 8, "magnetic ones"


# -- derivatives, float64 -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forces_are_derivatives_of_the_energy(name):
    direction = np.random.default_rng(1).normal(size=frames().positions.shape)
    norms = np.sqrt(np.bincount(frames().system, (direction**2).sum(axis=1)))
    direction /= norms[frames().system, None]
    steps = [frames().positions + sign * STEP * direction for sign in (1, -1)]
    ends = [potential(name).interaction_energy(moved(positions=positions)) for positions in steps]
    slope = -(ends[0] - ends[1]) / (2 * STEP)
    along = np.bincount(frames().system, (labelled(name).forces * direction).sum(axis=1))
    require({"forces": np.abs(along - slope)}, TOLERANCES["finite_difference"], f"{name} against finite differences")
    assert np.abs(slope).max() > 1, "forces large enough to tell"


@pytest.mark.parametrize("name", NAMES)
def test_stress_is_the_strain_derivative_of_the_energy(name):
    strain = np.random.default_rng(2).normal(size=(len(frames()), 3, 3))
    strain += strain.transpose(0, 2, 1)
    strain /= np.linalg.norm(strain, axis=(1, 2))[:, None, None]
    ends = []
    for sign in (1, -1):
        grown = np.eye(3) + sign * STEP * strain  # [S, 3, 3], symmetric
        positions = np.einsum("ai,aij->aj", frames().positions, grown[frames().system])
        ends.append(potential(name).interaction_energy(moved(cells=frames().cells @ grown, positions=positions)))
    slope = (ends[0] - ends[1]) / (2 * STEP * frames().volumes)
    along = (labelled(name).stress * strain).sum(axis=(1, 2))
    require({"stress": np.abs(along - slope)}, TOLERANCES["finite_difference"], f"{name} against finite differences")
    assert np.abs(slope).max() > 0.01, "stress large enough to tell"


# -- precision and parity -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64(name):
    require(deviations(labelled(name, "float32"), labelled(name)), TOLERANCES["float32"], f"{name} float32 against float64")


@contextmanager
def chgnet_in(dtype: torch.dtype):
    """The chgnet package made to compute in a precision: three modules state float32, the rest trusts torch's default."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # chgnet 0.4.2 turns tensors that carry gradients into numbers
        for module in ("graph.converter", "graph.crystalgraph", "model.model"):
            patch.setattr(import_module(f"chgnet.{module}"), "TORCH_DTYPE", dtype)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def chgnet_model(name: str):
    from chgnet.model.model import CHGNet

    return CHGNet.load(model_name=name.removeprefix("chgnet-"), verbose=False, use_device="cpu")


def chgnet_labels(name: str, dtype: torch.dtype) -> Frames:
    """What the chgnet package predicts for the fifty crystals, energies without elemental references."""
    from chgnet.graph import CrystalGraphConverter

    with chgnet_in(dtype):
        # 0.2.0 has a cutoff of 5 Å: bonds beyond weigh nothing there, and chgnet refuses Cs without neighbours
        converter = CrystalGraphConverter(atom_graph_cutoff=6, bond_graph_cutoff=3)
        graphs = [converter(structure) for structure in frames().to_pymatgen()]
        model = chgnet_model(name).to(dtype)
        model.composition_model = None
        told = model.predict_graph(graphs, task="efsm", batch_size=10)
    return frames().replace(
        energy=np.array([float(one["e"]) for one in told]) * frames().n_atoms,
        forces=np.concatenate([one["f"] for one in told]),
        stress=gpa_to_ev_a3(np.stack([one["s"] for one in told])),
        magmoms=np.concatenate([one["m"] for one in told]),
    )


@cache
def interaction(name: str) -> Frames:
    return labelled(name).replace(energy=potential(name).interaction_energy(frames()))


@pytest.mark.parametrize("name", NAMES)
def test_the_function_is_that_of_chgnet_in_float64(name):
    require(deviations(chgnet_labels(name, torch.float64), interaction(name)), EXACT, f"{name} against chgnet in float64")


@pytest.mark.parametrize("name", NAMES)
def test_chgnet_as_released_agrees_within_its_noise(name):
    found = deviations(chgnet_labels(name, torch.float32), interaction(name))
    for label, values in found.items():
        usual, where = getattr(TOLERANCES["chgnet"], label), frames().frame_id[values.argmax()]
        told = f"{name} against chgnet in float32: worst {label} off by {values.max():.2e} in {where}"
        print(told)
        # its noise grows where angles are straight (BiOCl): the function is the same, as the test above shows
        assert (values <= usual).sum() >= 45, told
        assert values.max() <= 5 * usual, told


@pytest.mark.parametrize("name", NAMES)
def test_total_energies_are_those_of_chgnet(name):
    few = [s for s in range(50) if frames().n_atoms[s] < 4 and 55 not in frames()[s].numbers]  # chgnet-0.2.0 refuses Cs
    with chgnet_in(torch.float32):
        told = chgnet_model(name).predict_structure(frames()[few].to_pymatgen(), batch_size=50)
    off = np.abs([float(one["e"]) for one in told] - labelled(name).energy_per_atom[few])
    assert off.max() < 1e-5  # float32 of energies down to -70 eV/atom


# -- symmetries, float64 ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_members(name):
    alone = Frames.concatenate([potential(name).label(one) for one in frames()])
    require(deviations(labelled(name), alone), EXACT, f"{name} batch against single")
    all_at_once = potential(name).label(frames(), batch_atoms=10**6)
    require(deviations(all_at_once, alone), EXACT, f"{name} one batch against single")


def turned(frames_: Frames, matrix: np.ndarray) -> Frames:
    return frames_.replace(cells=frames_.cells @ matrix.T, positions=frames_.positions @ matrix.T)


def turned_labels(labels: Frames, matrix: np.ndarray) -> Frames:
    return labels.replace(forces=labels.forces @ matrix.T, stress=matrix @ labels.stress @ matrix.T)


ROTATION = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


@pytest.mark.parametrize("matrix", [ROTATION, -ROTATION], ids=["rotation", "reflection"])
def test_rotation(matrix):
    got = potential("chgnet-0.3.0").label(turned(frames(), matrix))
    require(deviations(got, turned_labels(labelled("chgnet-0.3.0"), matrix)), EXACT, "rotation")


def test_a_wrong_rotation_is_noticed():
    got = potential("chgnet-0.3.0").label(turned(frames(), ROTATION))
    wrong = turned_labels(labelled("chgnet-0.3.0"), ROTATION.T)
    found = deviations(got, wrong)
    alone = frames().n_atoms == 1  # no forces on these, but a stress
    assert (found["forces"][~alone] > 1000 * EXACT.forces).all()
    assert (found["stress"] > 1000 * EXACT.stress).all()
    with pytest.raises(AssertionError, match="wrong: worst forces off"):
        require(found, EXACT, "wrong")


@pytest.mark.parametrize("name", NAMES)
def test_supercell(name):
    few = [atoms for atoms in crystals() if len(atoms) < 5]
    one = potential(name).predict(few)
    two = potential(name).predict([atoms.repeat((1, 2, 1)) for atoms in few])
    for atoms, small, large in zip(few, one, two, strict=True):
        title = atoms.info["frame_id"]
        assert large.energy_per_atom == pytest.approx(small.energy_per_atom, abs=EXACT.energy), title
        np.testing.assert_allclose(large.forces, np.tile(small.forces, (2, 1)), atol=EXACT.forces, rtol=0, err_msg=title)
        np.testing.assert_allclose(large.stress, small.stress, atol=EXACT.stress, rtol=0, err_msg=title)


def test_another_cell_of_the_same_lattice_and_another_order():
    rng = np.random.default_rng(5)
    # atoms shuffled inside each frame, thrown far out of the cell, in a skewed and left-handed cell
    order = np.lexsort((rng.random(frames().total_atoms), frames().system))
    far = rng.integers(-30, 31, (frames().total_atoms, 3))
    positions = frames().positions + np.einsum("ai,aij->aj", far, frames().cells[frames().system]) + [0.3, 5.1, -2.2]
    cells = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]) @ SKEWED @ frames().cells
    got = potential("chgnet-0.3.0").label(moved(numbers=frames().numbers[order], positions=positions[order], cells=cells))
    expected = labelled("chgnet-0.3.0")
    expected = expected.replace(forces=expected.forces[order], magmoms=expected.magmoms[order])
    require(deviations(got, expected), EXACT, "another cell")
