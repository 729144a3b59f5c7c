import shutil

import numpy as np
import pytest

import xclimb
from transfer.disturbed import interrupted, outcome, train
from xclimb.files import read_json


@pytest.fixture(scope="session")
def calm(tmp_path_factory):
    """The outcome of the short training that nobody disturbs."""
    return outcome(train(tmp_path_factory.mktemp("calm") / "run").path)


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """The same run, ended by SIGTERM at step 4 of 6; copy it before use."""
    path = tmp_path_factory.mktemp("half") / "run"
    assert interrupted(path, 4) == 0
    assert read_json(path / "run.json")["state"] == "interrupted"
    return path


@pytest.fixture
def run(half, tmp_path):
    return shutil.copytree(half, tmp_path / "run")


@pytest.fixture(scope="session")
def source():
    return xclimb.load("chgnet-0.3.0")


@pytest.fixture(scope="session")
def pairs():
    """Small crystals of the embedded sample, r2SCAN: (train, val), no material in both, every val element in train."""
    frames = xclimb.load_sample("dft_pairs", functional="r2SCAN")
    materials = frames.material_id.astype(str)
    small = [name for name in dict.fromkeys(materials.tolist()) if frames.n_atoms[materials == name][0] <= 2]
    held = next(name for name in small if _covered(frames, materials, small, name))
    chosen = [name for name in small if name != held]
    train, val = frames[np.isin(materials, chosen)][::3], frames[materials == held]
    first = [train.system[train.numbers == z][0] for z in val.elements.tolist()]  # tests cut train short: these stay in it
    order = dict.fromkeys([*np.array(first).tolist(), *range(len(train))])
    return train[np.array(list(order))], val


def _covered(frames, materials, small, name):
    others = frames[np.isin(materials, [other for other in small if other != name])][::3]
    return (
        len(np.unique(frames[materials == name].numbers)) == 2
        and np.isin(frames[materials == name].elements, others.elements).all()
    )
