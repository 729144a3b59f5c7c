import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, make_supercell, molecule
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import xclimb
from xclimb.errors import CheckpointError, ConfigError, DataError, XclimbWarning
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.units import full_to_voigt


@pytest.fixture(scope="module")
def exact():
    return load("chgnet-0.3.0", dtype="float64")


@pytest.fixture
def salt():
    """Distorted, strained NaCl: no force or stress component is zero by symmetry."""
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell(atoms.cell.array @ np.array([[1.03, 0.01, 0.0], [0.0, 0.98, 0.02], [0.01, 0.0, 1.01]]), scale_atoms=True)
    atoms.rattle(0.08, seed=1)
    return atoms


class Counting(Potential):
    """A potential that counts its evaluations."""

    def __init__(self, inner: Potential):
        super().__init__(inner.model, inner.references, inner.theory, inner.name)
        self.calls = 0

    def predict(self, *args, **settings):
        self.calls += 1
        return super().predict(*args, **settings)


def test_results_are_those_of_the_potential(salt, exact):
    expected = exact.predict(salt)
    salt.calc = xclimb.Calculator(exact)
    assert salt.get_potential_energy() == expected.energy
    assert salt.get_potential_energy(force_consistent=True) == expected.energy
    np.testing.assert_array_equal(salt.get_forces(), expected.forces)
    np.testing.assert_allclose(salt.get_stress(), full_to_voigt(expected.stress), atol=1e-14)
    np.testing.assert_array_equal(salt.get_magnetic_moments(), expected.magmoms)
    np.testing.assert_array_equal(salt.get_potential_energies(), expected.site_energies)
    np.testing.assert_array_equal(salt.calc.prediction.site_energies, expected.site_energies)
    assert salt.get_potential_energies().sum() == pytest.approx(expected.energy, abs=1e-9)


def test_forces_are_the_derivative_of_the_energy(salt, exact):
    salt.calc = xclimb.Calculator(exact)
    forces, step = salt.get_forces(), 1e-4
    for atom, axis in [(0, 0), (0, 2), (1, 1)]:
        energies = []
        for sign in (1, -1):
            moved = salt.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = salt.calc
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[atom, axis], abs=1e-6)


def test_stress_is_the_derivative_of_the_energy_with_strain(salt, exact):
    salt.calc = xclimb.Calculator(exact)
    stress, step = salt.get_stress(), 1e-5
    for component, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += 0.5 * sign * step
            strain[j, i] += 0.5 * sign * step
            strained = salt.copy()
            strained.set_cell(salt.cell.array @ strain, scale_atoms=True)
            strained.calc = salt.calc
            energies.append(strained.get_potential_energy())
        assert (energies[0] - energies[1]) / (2 * step) / salt.get_volume() == pytest.approx(stress[component], abs=1e-6)


def test_one_evaluation_gives_all_and_is_kept_until_the_atoms_change(salt):
    potential = Counting(load("chgnet-0.3.0"))
    salt.calc = xclimb.Calculator(potential)
    for ask in (salt.get_potential_energy, salt.get_forces, salt.get_stress, salt.get_magnetic_moments):
        ask()
    assert potential.calls == 1
    salt.set_initial_magnetic_moments([1.0, 2.0])  # the network does not see them
    salt.get_forces()
    assert potential.calls == 1
    before = salt.get_potential_energy()
    salt.positions[0, 0] += 0.05
    assert salt.get_potential_energy() != before
    salt.set_cell(salt.cell * 1.01)
    salt.get_stress()
    salt.numbers[0] = 3
    salt.get_potential_energy()
    salt.pbc = False
    salt.get_potential_energy()
    assert potential.calls == 5


def test_ases_own_ways_to_ask_for_and_to_export_properties(salt, exact):
    calculator = xclimb.Calculator(exact)
    wanted = ["energy", "energies", "forces", "stress", "magmoms"]
    found = calculator.calculate_properties(salt, wanted)
    assert found["energies"].sum() == pytest.approx(found["energy"], abs=1e-9)
    exported = calculator.export_properties()
    assert set(exported) == {*wanted, "free_energy", "natoms"}
    np.testing.assert_array_equal(exported["energies"], calculator.prediction.site_energies)
    calculator.reset()
    assert calculator.prediction is None


def test_a_short_repr_with_units(salt):
    calculator = xclimb.Calculator("chgnet-0.3.0")
    assert repr(calculator) == f"Calculator({calculator.potential!r})"
    told = repr(calculator.potential.predict(salt))
    assert len(told) < 160
    assert "eV/atom; 2 atoms, |forces| up to" in told


def close_salt() -> Atoms:
    return Atoms("NaCl", [(0, 0, 0), (0, 0, 1.2)])


def test_atoms_that_are_too_close_are_told_once_by_a_calculator_and_at_each_prediction():
    atoms = close_salt()
    atoms.calc = xclimb.Calculator("chgnet-0.3.0")
    with pytest.warns(XclimbWarning, match=r"Cl-Na atoms are closer than half the sum"):
        atoms.get_potential_energy()
    for _ in range(2):  # warnings are errors here
        atoms.positions[1, 2] += 0.01
        atoms.get_potential_energy()
    for _ in range(2):
        with pytest.warns(XclimbWarning, match="frame structure 0: Cl-Na atoms"):
            atoms.calc.potential.predict([close_salt()])


def test_a_crystal_in_nm_is_refused():
    atoms = bulk("NaCl", "rocksalt", a=0.564, cubic=True).repeat(3)
    atoms.calc = xclimb.Calculator("chgnet-0.3.0")
    with pytest.raises(DataError, match=r"frame Cl108Na108|frame Na108Cl108"):
        atoms.get_forces()


def test_results_do_not_change_under_the_users_hands(salt):
    salt.calc = xclimb.Calculator("chgnet-0.3.0")
    forces = salt.get_forces()
    kept = forces.copy()
    forces[:] = 0.0
    np.testing.assert_array_equal(salt.get_forces(), kept)


def test_relaxes_strained_salt_to_one_minimum(exact):
    energies, volumes = [], []
    for strain in (0.96, 1.05):
        atoms = bulk("NaCl", "rocksalt", a=5.65 * strain)
        atoms.rattle(0.05, seed=3)
        atoms.calc = xclimb.Calculator(exact)
        with BFGS(FrechetCellFilter(atoms), logfile=None) as relaxation:
            assert relaxation.run(fmax=0.005, steps=60)
        assert np.abs(atoms.get_stress()).max() < 1e-3
        energies.append(atoms.get_potential_energy())
        volumes.append(atoms.get_volume())
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)
    assert volumes[0] == pytest.approx(volumes[1], rel=5e-3)
    assert 42 < volumes[0] < 48  # experiment: 44.8 Å^3 a formula unit


def test_molecular_dynamics_conserve_the_total_energy():
    atoms = make_supercell(bulk("NaCl", "rocksalt", a=5.65), np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]))
    atoms.calc = xclimb.Calculator("chgnet-0.3.0")
    hot(atoms, 600)
    totals, kinetic = [], []

    def record():
        totals.append(atoms.get_total_energy() / len(atoms))
        kinetic.append(atoms.get_kinetic_energy() / len(atoms))

    with VelocityVerlet(atoms, timestep=1.0 * units.fs) as dynamics:
        dynamics.attach(record, interval=2)
        dynamics.run(200)  # 0.2 ps
    totals, times = np.array(totals), np.arange(len(totals)) * 0.002  # ps
    assert np.ptp(kinetic) > 0.01  # the atoms did exchange energy
    assert np.ptp(totals) < 2e-3  # eV/atom
    assert abs(np.polyfit(times, totals, 1)[0]) < 2e-3  # eV/atom/ps


def hot(atoms: Atoms, kelvin: float) -> Atoms:
    velocities = (
        np.random.default_rng(0).normal(size=(len(atoms), 3)) * np.sqrt(kelvin * units.kB / atoms.get_masses())[:, None]
    )
    atoms.set_velocities(velocities - velocities.mean(axis=0))
    return atoms


def require_fresh(atoms: Atoms, fresh) -> None:
    """The results of the atoms' calculator are those of one without a skin."""
    expected = fresh.potential.predict(atoms)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-5 * len(atoms))
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=2e-5)
    np.testing.assert_allclose(atoms.get_stress(), full_to_voigt(expected.stress), atol=1e-6)
    np.testing.assert_allclose(atoms.get_magnetic_moments(), expected.magmoms, atol=1e-5)


def test_with_a_skin_every_step_of_hot_dynamics_is_that_of_a_new_search(salt):
    atoms = hot(salt, 4000)
    atoms.calc, fresh = xclimb.Calculator("chgnet-0.3.0", skin=0.5), xclimb.Calculator("chgnet-0.3.0", skin=0.0)
    with VelocityVerlet(atoms, timestep=2.0 * units.fs) as dynamics:
        for _ in range(150):
            dynamics.run(1)
            require_fresh(atoms, fresh)
    assert 2 <= atoms.calc.search.n_searches <= 75  # atoms moved by more than half a skin, many steps went between


def test_the_skin_holds_when_the_user_changes_the_atoms(salt):
    salt.calc, fresh = xclimb.Calculator("chgnet-0.3.0"), xclimb.Calculator("chgnet-0.3.0", skin=0.0)

    def searches() -> int:
        require_fresh(salt, fresh)
        return salt.calc.search.n_searches

    assert searches() == 1
    salt.positions[0, 0] += 0.1
    assert searches() == 1
    salt.positions[0] += salt.cell.array[1]  # the same crystal, but the atom is at another place
    assert searches() == 2
    salt.numbers[0] = 19  # where the atoms are is the same
    assert searches() == 2
    salt.set_cell(salt.cell.array * 1.001, scale_atoms=True)
    assert searches() == 3
    salt.pbc = (True, True, False)
    assert searches() == 4
    del salt[1]
    assert searches() == 5


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_a_skin_is_a_distance(skin):
    with pytest.raises(ConfigError, match="is not a distance"):
        xclimb.Calculator("chgnet-0.3.0", skin=skin)


@pytest.mark.parametrize("name", ["atom", "molecule", "molecule in a box"])
def test_without_periodicity(name):
    atoms = Atoms("Fe") if name == "atom" else molecule("H2O", vacuum=4.0 if name.endswith("box") else None)
    atoms.calc = xclimb.Calculator("chgnet-0.3.0")
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.get_forces().shape == (len(atoms), 3)
    assert atoms.get_stress().shape == (6,)
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-5)
    if not name.endswith("box"):
        np.testing.assert_array_equal(atoms.get_stress(), np.zeros(6))


def test_slab_without_a_third_cell_vector(exact):
    slab = fcc111("Al", (1, 1, 3), vacuum=None)
    slab.pbc = (True, True, False)
    slab.calc = xclimb.Calculator(exact)
    assert np.abs(slab.get_forces()[:, :2]).max() < 1e-6
    assert slab.get_forces()[0, 2] == pytest.approx(-slab.get_forces()[-1, 2], abs=1e-6)


def test_trajectory_keeps_results_and_says_which_potential(salt, tmp_path):
    salt.calc = xclimb.Calculator("chgnet-r2scan")
    energy = salt.get_potential_energy()
    with Trajectory(str(tmp_path / "steps.traj"), "w", salt) as steps:
        steps.write()
    again = read(tmp_path / "steps.traj")
    assert again.get_potential_energy() == energy
    np.testing.assert_allclose(again.get_magnetic_moments(), salt.get_magnetic_moments())
    assert again.calc.name == "xclimb"
    assert salt.calc.todict() == {"potential": "chgnet-r2scan", "theory": str(salt.calc.potential.theory), "dtype": "float32"}


def test_takes_a_name_a_path_and_a_potential(salt, exact, tmp_path):
    saved = exact.save(tmp_path / "saved")
    energies = []
    for potential in ("chgnet-0.3.0", saved, str(saved), exact):
        salt.calc = xclimb.Calculator(potential, dtype="float64")
        energies.append(salt.get_potential_energy())
    np.testing.assert_allclose(energies, energies[0], atol=1e-10)


def test_keeps_the_precision_of_a_given_potential_unless_told(exact):
    assert xclimb.Calculator(exact).potential is exact
    assert xclimb.Calculator(exact, dtype="float32").parameters["dtype"] == "float32"
    assert xclimb.Calculator("chgnet-0.3.0").parameters["dtype"] == "float32"


def test_labels_of_a_former_calculator_play_no_part(salt):
    salt.info["energy"] = "not a number"
    salt.arrays["forces"] = np.zeros((2, 5))
    salt.info["frame_id"] = 7
    salt.calc = xclimb.Calculator("chgnet-0.3.0")
    assert np.isfinite(salt.get_potential_energy())


def test_errors_name_the_structure(salt):
    calculator = xclimb.Calculator("chgnet-0.3.0")
    salt.positions[1] = salt.positions[0] + 0.01
    salt.calc = calculator
    with pytest.raises(DataError, match=r"ClNa|NaCl"):
        salt.get_potential_energy()
    dummy = Atoms("X")
    dummy.calc = calculator
    with pytest.raises(DataError, match="atomic number 0"):
        dummy.get_potential_energy()


def test_unknown_potential_names_the_nearest():
    with pytest.raises(CheckpointError, match=r"did you mean 'chgnet-0\.3\.0'"):
        xclimb.Calculator("chgnet-0.3")


def test_an_element_without_data_is_told(exact):
    lone = Atoms("Po", cell=[3.3] * 3, pbc=True)
    lone.calc = xclimb.Calculator(exact)
    if "Po" in exact.references.energies:
        with pytest.warns(XclimbWarning, match="Po"):
            lone.get_potential_energy()
    else:
        with pytest.raises(xclimb.XclimbError, match="Po"):
            lone.get_potential_energy()
