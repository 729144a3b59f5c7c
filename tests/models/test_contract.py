"""The contract checker is itself checked: every way to break a potential is caught, and told for what it is."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from xclimb.errors import DataError
from xclimb.models.contract import CHECKS
from xclimb.models.zoo import fresh, load
from xclimb.testing import TOLERANCES, check_potential, tiny_crystals

from .toys import Pair, Spoiled, more_energy

TWO = {name: tiny_crystals()[name] for name in ("NaCl", "SrTiO3")}


@pytest.mark.parametrize("name", ["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan"])
def test_the_zoo_keeps_the_contract(name):
    check_potential(load(name))


def test_new_weights_keep_the_contract():
    check_potential(fresh(load("chgnet-0.3.0"), seed=3), TWO)


def test_elements_without_data_are_no_breach_and_nothing_to_warn_of():
    """Ytterbium has no reference in MP-r2SCAN: the derivatives of its energies are checked all the same."""
    ytterbium = bulk("Yb", "fcc", a=5.5, cubic=True)
    ytterbium.rattle(0.1, seed=0)
    check_potential(load("chgnet-r2scan"), [ytterbium])


def test_a_potential_of_another_make_keeps_the_contract():
    check_potential(Pair())


def test_structures_of_the_users_choice():
    check_potential(Pair(), list(TWO.values()))
    with pytest.raises(DataError, match="no structures"):
        check_potential(Pair(), [])


def test_structures_that_could_not_tell_are_refused():
    cube = Atoms("Cu", cell=np.eye(3) * 3.0, pbc=True)
    with pytest.raises(AssertionError, match="rotation: forces of every structure look the same from all sides"):
        check_potential(Pair(), [cube])


class Scalar(Pair):
    def predict(self, x):
        out = super().predict(x)
        return out[0] if isinstance(out, list) and len(out) == 1 else out


class Forgetful(Pair):
    def predict(self, x):
        out = super().predict(x)
        return out[:-1] if isinstance(out, list) and len(out) > 1 else out


class AlwaysList(Pair):
    def predict(self, x):
        out = super().predict(x)
        return out if isinstance(out, list) else [out]


class Wrapping(Pair):
    def predict(self, x):
        for atoms in [x] if isinstance(x, Atoms) else x:
            atoms.wrap()
        return super().predict(x)


class Labelling(Pair):
    def predict(self, x):
        for atoms in [x] if isinstance(x, Atoms) else x:
            atoms.info["seen"] = True
        return super().predict(x)


class Popping(Pair):
    def predict(self, x):
        out = super().predict(x)
        if isinstance(x, list):
            x.reverse()
        return out


class Crowded(Pair):
    def predict(self, x):
        out = super().predict(x)
        for one in out if isinstance(out, list) else []:
            more_energy(one, 1e-6 * len(out))
        return out


class Caching(Pair):
    def __init__(self):
        self.known = {}

    def answer(self, frame):
        key = frame.positions.tobytes() + frame.cells.tobytes() + frame.pbc.tobytes()
        return self.known.setdefault(key, super().answer(frame))


class Dicey(Pair):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def answer(self, frame):
        out = super().answer(frame)
        more_energy(out, 1e-6 * self.rng.random())
        return out


class Coarse(Pair):
    dtype = "float64"

    def to(self, dtype):
        return Spoiled(lambda out, frame: more_energy(out, 2e-5)) if dtype == "float32" else self


class Hard(Pair):
    def pair(self, r):
        return np.where(r < 6, 1 / r, 0.0), np.where(r < 6, -1 / r**2, 0.0)


class HardInside(Pair):
    def pair(self, r):
        value, slope = super().pair(r)
        return value + np.where(r < 3, 1e-4, 0.0), slope


class Kinked(Pair):
    power = 1  # continuous, but not its slope


class Anisotropic(Pair):
    stretch = np.array([1.0, 1.0, 1.001])  # changes no cutoff of the neighbour list that matters here


class Periodic(Pair):
    def answer(self, frame):
        return super().answer(frame.replace(pbc=np.ones((1, 3), dtype=bool)) if frame.volumes[0] > 0 else frame)


def _tensor(out, frame):
    out.forces = torch.tensor(out.forces, requires_grad=True)


def _zero(out, frame):
    out.forces, out.stress, out.energy = 0 * out.forces, 0 * out.stress, 0.0
    out.site_energies = 0 * out.site_energies


def _absolute(out, frame):
    more_energy(out, 1e-6 * frame.positions[:, 0].mean())


def _index(out, frame):
    out.site_energies = out.site_energies + 1e-6 * (np.arange(len(frame.numbers)) == 0)
    out.energy = float(out.site_energies.sum())


def _handed(out, frame):
    out.stress = out.stress * np.sign(np.linalg.det(frame.cells[0]) or 1.0)


def _near_only(out, frame):
    if frame.volumes[0] > 0:
        outside = np.abs(np.linalg.solve(frame.cells[0].T, frame.positions.T)).max() > 5
        more_energy(out, 1e-6 * outside)


def _raise_alone(out, frame):
    if len(frame.numbers) == 1 and not frame.pbc.any():
        raise ValueError("isolated atom")


def _raise_sparse(out, frame):
    if len(frame.numbers) == 2 and frame.numbers[0] == 11 and frame.volumes[0] > 60:  # NaCl, but stretched
        raise IndexError("no angles")


def _mean_field(out, frame):
    more_energy(out, 1e-3 * out.magmoms.mean())


def _constant(out, frame):
    more_energy(out, 1e-3 / len(frame.numbers))


def _stray_force(out, frame):
    if len(frame.numbers) == 1:
        out.forces = out.forces + 1e-12


def _box(out, frame):
    if frame.volumes[0] == 0 and len(frame.numbers) > 1:
        more_energy(out, 1e-6)


def _lopsided(out, frame):
    out.stress = out.stress + np.array([[0, 1e-6, 0], [0, 0, 0], [0, 0, 0]]) * frame.pbc.all()


def _wrong_turn(out, frame):
    out.forces = out.forces[:, [1, 0, 2]] * [1, -1, 1]  # turned about z: right for no crystal


def _set(**changes):
    def after(out, frame):
        for name, change in changes.items():
            setattr(out, name, change(getattr(out, name)))

    return after


BROKEN = {
    "a list for one": (AlwaysList(), "outputs: one structure .* must give one prediction, not a list"),
    "tensors": (Spoiled(_tensor), "outputs: forces of NaCl must be a NumPy array, not Tensor"),
    "NumPy float32 energy": (Spoiled(_set(energy=np.float32)), "outputs: energy of NaCl must be a Python float, not float32"),
    "energy is NaN": (Spoiled(_set(energy=lambda energy: energy * np.nan)), "outputs: energy of NaCl is not finite"),
    "stress is NaN": (Spoiled(_set(stress=lambda stress: stress * np.nan)), "outputs: stress of NaCl are not finite"),
    "Voigt stress": (Spoiled(_set(stress=lambda s: s.ravel()[:6])), r"stress of NaCl must have shape \(3, 3\), not \(6,\)"),
    "whole magmoms": (Spoiled(_set(magmoms=lambda m: m.astype(int))), "magmoms of NaCl must be floating point, not int64"),
    "scalar for one-element list": (Scalar(), "a list for a list: a list of 1 must give a list of predictions"),
    "drops the last": (Forgetful(), "a list for a list: a list of 2 gave 1 predictions"),
    "wraps the atoms": (Wrapping(), "inputs stay as they are: positions of the atoms given were changed"),
    "writes into info": (Labelling(), "inputs stay as they are: info of the atoms given were changed"),
    "reverses the list": (Popping(), "inputs stay as they are: the list given was changed"),
    "random": (Dicey(), "same question, same answer: energy of NaCl off by"),
    "hands out its cache": (Caching(), "same question, same answer: forces of NaCl off by nan"),
    "depends on the batch": (Crowded(), "batch = single: energy of NaCl off by"),
    "coarse in float32": (Coarse(), "float32 against float64: energy of NaCl off by 2e-05 eV/atom, allowed 5e-06"),
    "sites do not sum up": (Spoiled(_set(site_energies=lambda sites: sites + 1e-6)), "site energies: their sum is off"),
    "absolute position": (Spoiled(_absolute), "translation: energy of NaCl off by"),
    "atoms in the cell only": (Spoiled(_near_only), "atoms outside the cell: energy of NaCl off by"),
    "sign by handedness": (Spoiled(_handed), "left-handed cell: stress of NaCl off by"),
    "order of atoms": (Spoiled(_index), "permutation: site_energies of NaCl off by"),
    "one direction is special": (Anisotropic(), "rotation: energy of NaCl off by"),
    "forces in another frame": (Spoiled(_wrong_turn), "rotation: forces of NaCl off by"),
    "always zero": (Spoiled(_zero), "rotation: forces of every structure look the same"),
    "not extensive": (Spoiled(_constant), "supercell: energy of NaCl off by"),
    "no lone atoms": (Spoiled(_raise_alone), "lone atom: the potential raised ValueError: isolated atom"),
    "force on a lone atom": (Spoiled(_stray_force), "lone atom: forces and stress of a lone atom must be zero"),
    "cannot do without angles": (Spoiled(_raise_sparse), "no angles: the potential raised IndexError: no angles"),
    "periodic everywhere": (Periodic(), "partial periodicity: energy of a slab of NaCl without vacuum off by"),
    "needs a box": (Spoiled(_box), "no periodicity: energy of a cluster of NaCl off by"),
    "all feel all": (Spoiled(_mean_field), "far fragments: site_energies of two clusters far apart off by"),
    "forces off by a factor": (Spoiled(_set(forces=lambda forces: 1.001 * forces)), "forces are derivatives: forces of NaCl"),
    "wrong sign of stress": (Spoiled(_set(stress=lambda stress: -stress)), "stress is a derivative: stress of NaCl"),
    "stress in GPa": (Spoiled(_set(stress=lambda stress: 160.2 * stress)), "stress is a derivative: stress of NaCl"),
    "energy jumps at 6 Å": (Hard(), "smooth at the cutoffs: energy jumps by .* at 6 Å"),
    "energy jumps at 3 Å": (HardInside(), "smooth at the cutoffs: energy jumps by .* at 3 Å"),
    "forces jump": (Kinked(), "smooth at the cutoffs: forces jump by .* at 6 Å"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_potentials_are_caught(name):
    potential, told = BROKEN[name]
    with pytest.raises(AssertionError, match=told):
        check_potential(potential, TWO)


def test_asymmetric_stress_is_caught():
    # any frame but the crystal's own would tell sooner, so only this one check is run
    from xclimb.testing import _subject

    subject = _subject(Spoiled(_lopsided), None)
    CHECKS["outputs"](subject)
    with pytest.raises(AssertionError, match="stress of NaCl is not symmetric"):
        CHECKS["stress is a derivative"](subject)


def test_every_check_has_been_seen_to_fail():
    caught = {told.partition(":")[0] for _, told in BROKEN.values()}
    assert set(CHECKS) <= caught


def test_tolerances_are_those_of_the_house():
    assert (TOLERANCES["float32"].energy, TOLERANCES["float32"].forces) == (5e-6, 1e-4)
    assert TOLERANCES["float32"].stress == pytest.approx(2e-4 / 160.21766208)
    assert (TOLERANCES["finite_difference"].forces, TOLERANCES["finite_difference"].stress) == (1e-6, 1e-6)


def test_tiny_crystals_are_the_same_every_time():
    for (name, one), other in zip(tiny_crystals().items(), tiny_crystals().values(), strict=True):
        assert one == other, name
