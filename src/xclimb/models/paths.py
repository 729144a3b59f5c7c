"""Which path a prediction takes: plain PyTorch, or on a CPU in float32 the fused kernels, when numba is there for them.

The kernels work on one thread, only their matrix products on all of torch's; with many threads plain PyTorch may be faster
and is taken. ``XCLIMB_PATH=plain`` or ``fused`` in the environment decides otherwise. Training is always plain: the kernels
know no gradient of the parameters. Both paths compute the same function and keep the same tolerances.
"""

import os
from functools import cache

import torch

from xclimb.errors import ConfigError
from xclimb.models.chgnet import Update, as_written

FEW_THREADS = 2  # up to here the fused path is taken by itself


def path_of(device: torch.device, dtype: torch.dtype) -> str:
    """``"fused (numba)"``, or ``"plain"`` and why.

    Raises:
        ConfigError: on another value of ``XCLIMB_PATH`` than ``auto`` (the default), ``fused`` and ``plain``.
    """
    wanted = os.environ.get("XCLIMB_PATH") or "auto"
    if wanted not in ("auto", "fused", "plain"):
        raise ConfigError(f"XCLIMB_PATH={wanted!r} is not a path: use 'auto', 'fused' or 'plain', or unset it")
    if wanted == "plain":
        return "plain (XCLIMB_PATH)"
    if device.type != "cpu" or dtype != torch.float32:
        return f"plain ({device.type}, {str(dtype).removeprefix('torch.')})"
    threads = torch.get_num_threads()
    if wanted == "auto" and threads > FEW_THREADS:
        return f"plain ({threads} threads; the fused path works on one: XCLIMB_PATH=fused takes it all the same)"
    missing = _what_is_missing()
    return f"plain ({missing})" if missing else "fused (numba)"


def update_of(device: torch.device, dtype: torch.dtype) -> Update:
    """What computes the layers of the network on the path of :func:`path_of`."""
    if path_of(device, dtype).startswith("plain"):
        return as_written
    from xclimb.models.kernels import fused

    return fused


@cache
def _what_is_missing() -> str:
    """Why the kernels cannot be used, or nothing."""
    try:
        import xclimb.models.kernels  # noqa: F401
    except ModuleNotFoundError:
        return "without numba: pip install 'xclimb[fast]' for faster predictions"
    except (ImportError, RuntimeError) as error:  # numba and NumPy do not fit, or nowhere to keep what is compiled
        return f"numba cannot be used: {error}"
    return ""
