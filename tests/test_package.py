import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import pytest
from jaxtyping import TypeCheckError

import xclimb
from xclimb.data.theory import functional_name

HEAVY = ("torch", "ase", "pymatgen", "chgnet", "pandas", "pyarrow", "plotly", "matplotlib", "scipy")
# reading data and reports, and the command line's --help, must not wait for torch
WITHOUT_TORCH = (
    "xclimb.cli",
    "xclimb.config",
    "xclimb.data",
    "xclimb.errors",
    "xclimb.ingest",
    "xclimb.references",
    "xclimb.report",
)
WITH_A_POTENTIAL = ("xclimb.ingest.model_audit", "xclimb.ingest.zero_labels")


def python(*lines: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(xclimb.__path__, "xclimb.")]
    return sorted(name for name in found if not name.endswith("__main__"))


def test_importing_xclimb_imports_nothing_heavy():
    looking = "import sys, xclimb; dir(xclimb); xclimb.__version__; xclimb.XclimbError"
    assert python(looking, f"print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_light_rooms_do_not_import_torch():
    names = [name for name in modules() if name.startswith(WITHOUT_TORCH) and name not in WITH_A_POTENTIAL]
    told = python(
        "import sys",
        "from importlib import import_module",
        f"for name in {names}:",
        "    import_module(name)",
        "    if 'torch' in sys.modules: break",
        "else: name = 'none'",
        "print(name)",
    )
    assert told == "none"


@pytest.mark.parametrize("name", xclimb.__all__)
def test_public_name_resolves(name):
    assert getattr(xclimb, name) is not None
    assert name in dir(xclimb)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trasnfer'"):
        _ = xclimb.trasnfer


def test_annotations_are_checked_in_tests():
    with pytest.raises(TypeCheckError, match="functional_name"):
        functional_name(3)


def test_version_is_the_installed_one():
    try:
        expected = version("xclimb")
    except PackageNotFoundError:
        expected = "0+unknown"
    assert xclimb.__version__ == expected


def test_transfer_is_a_function_whatever_is_imported_first():
    orders = [
        "import xclimb",
        "import xclimb; xclimb.transfer; from xclimb.transfer.fit import run_transfer",
        "import xclimb; import xclimb.transfer.methods; xclimb.transfer.methods.METHODS",
        "import xclimb.transfer.methods; import xclimb",
        "import xclimb; from xclimb.transfer.api import transfer; assert inspect.isfunction(transfer)",
        "from xclimb.transfer import session, resume; assert inspect.ismodule(session)",
        "from importlib import import_module; assert inspect.ismodule(import_module('xclimb.transfer.resume'))",
        "from xclimb import transfer; assert callable(transfer); import xclimb",
        "from xclimb import *; assert callable(transfer); import xclimb",
    ]
    told = python(
        "import inspect, pickle, pydoc, sys",
        f"for order in {orders}:",
        "    for name in [name for name in sys.modules if name.partition('.')[0] == 'xclimb']: del sys.modules[name]",
        "    exec(order)",
        "    import xclimb",
        "    assert inspect.isfunction(xclimb.transfer), order",
        "    import xclimb.transfer.api as api",
        "    assert inspect.ismodule(api) and xclimb.transfer is api.transfer, order",
        "    assert pickle.loads(pickle.dumps(xclimb.transfer)) is xclimb.transfer, order",
        "    shown = pydoc.render_doc(xclimb.transfer, renderer=pydoc.plaintext)",
        "    assert 'transfer(source' in shown and 'Transfer a pre-trained potential to the level of theory' in shown, shown",
        "print('function')",
    )
    assert told == "function"


def test_transfer_takes_the_arguments_of_the_documentation():
    parameters = inspect.signature(xclimb.transfer).parameters
    assert {"source", "train", "val", "method", "out", "seed"} <= set(parameters)


@pytest.mark.parametrize("name", modules())
def test_module_documents_itself(name):
    assert import_module(name).__doc__


def test_importing_every_module_has_no_side_effect():
    told = python(
        "import os, random, sys, threading, warnings",
        "import numpy as np, torch",
        "def state():",
        "    numbers = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()",
        "    switches = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), np.geterr()",
        "    return *numbers, *switches, dict(os.environ), os.getcwd(), threading.active_count(), sys.getrecursionlimit()",
        "import lightning_fabric",
        "import ase.io, jinja2, plotly.graph_objects, pyarrow.parquet, pymatgen.core, rich, scipy, typer, yaml",  # theirs
        "before, filters = state(), list(warnings.filters)",
        "from importlib import import_module",
        f"for name in {modules()}: import_module(name)",
        "assert state() == before",
        "assert warnings.filters == filters",
        "print('quiet')",
    )
    assert told == "quiet"
