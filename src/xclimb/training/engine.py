""":class:`Engine`: one training process or many, on any device, by Lightning Fabric.

The network is so small (0.4 M weights) that the gradients of a step travel best in one piece: every process computes the sum
of its share of a step, the sums are reduced over all processes, and all take the same step. Nothing is averaged, so that what
comes out is what one process would have computed.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from xclimb.backends.select import select
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError, TrainingError, XclimbError
from xclimb.graph.batch import Batch
from xclimb.models.base import Output

# at import, so that it holds in spawned processes from their first moment: they log nothing of their own
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


_PRECISIONS = {"full": "32-true", "bf16": "bf16-mixed"}  # as Fabric calls them


class Engine:
    """The device and the other processes of a training.

    Args:
        fabric: launched.
        precision: of training steps, as in the settings.
    """

    def __init__(self, fabric: Fabric, precision: str):
        self._fabric, self._precision = fabric, precision
        self.device: torch.device = fabric.device
        self.rank: int = fabric.global_rank
        self.world: int = fabric.world_size

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process has rank zero: the one that writes files and prints."""
        return self.rank == 0

    def forward(self, network: nn.Module) -> Callable[[Batch, bool], Output]:
        """The function of a batch and of whether derivatives are wanted that a training step differentiates.

        In full precision the backend for the network computes it. With ``precision: bf16`` the layers of the network run
        under autocast; geometry, readout and the gradient with respect to positions do not.
        """
        if self._precision == "full":
            return partial(select(network).forward, network)
        return partial(self._autocast_forward, network)

    def _autocast_forward(self, network: nn.Module, batch: Batch, derivatives: bool) -> Output:
        with self._autocast(network.layers):
            output: Output = network(batch, create_graph=True, derivatives=derivatives)
        return output

    @contextmanager
    def _autocast(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        contexts: list[AbstractContextManager] = []

        def enter(*_: Any) -> None:
            contexts.append(self._fabric.autocast())
            contexts[-1].__enter__()

        def leave(*_: Any) -> None:
            contexts.pop().__exit__(None, None, None)

        hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
        hooks += [layer.register_forward_hook(leave, always_call=True) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; together, in one message for each type.

        Raises:
            TrainingError: if another process is gone.
        """
        self._exchange(tensors, lambda flat: self._fabric.all_reduce(flat, reduce_op="sum"))

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the first process.

        Raises:
            TrainingError: if another process is gone.
        """
        self._exchange(tensors, lambda flat: self._fabric.broadcast(flat, src=0))

    def barrier(self) -> None:
        """Wait until every process has reached this point.

        Raises:
            TrainingError: if another process is gone.
        """
        self.all_reduce([torch.zeros(1, device=self.device)])

    def _exchange(self, tensors: Sequence[Tensor], message: Callable[[Tensor], Tensor]) -> None:
        if self.world == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            mine = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in mine])
            try:
                flat = message(flat).to(self.device)
            except (RuntimeError, OSError) as error:
                raise TrainingError(_lost_process_message(str(error))) from error
            for tensor, part in zip(mine, flat.split([tensor.numel() for tensor in mine]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))


def run_on_devices(config: TransferConfig, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function(engine, *args)`` in as many processes as the settings ask for; gives what the first of them returns.

    One process is this one. Several are started here, or were started by torchrun or srun, of which each calls this.

    Raises:
        ConfigError: if the processes cannot be started as the settings say.
        TrainingError: if one of the processes is lost.
    """
    outside = started_from_outside()
    if config.nodes > 1 and not outside:
        raise ConfigError("several nodes need a launcher that knows them: start the command with torchrun or srun")
    if config.devices * config.nodes == 1:
        return function(Engine(_fabric(config, "auto"), config.precision), *args)
    if outside:
        return function(Engine(_fabric(config, "ddp"), config.precision), *args)
    fabric = _fabric(config, "ddp_spawn", launch=False)
    with _pass_signals_on(), _environment_kept():
        try:
            # the outcome must stay small: it is read when all processes have ended, and a full pipe would keep them from it
            outcome = fabric.launch(partial(_run_in_process, precision=config.precision, function=function, args=args))
        except ProcessExitedException as error:
            raise TrainingError(
                _lost_process_message(f"process {error.error_index} ended by {error.signal_name or error.exit_code}")
            ) from None
        except ProcessException as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise TrainingError(_lost_process_message(f"process {error.error_index}: {said[-1].strip()}")) from error
        except RuntimeError as error:  # the script would start itself again in every process
            detail = "several processes need a script that starts under if __name__ == '__main__'"
            raise ConfigError(f"{detail}: put the call there, or use the command line") from error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


class _Outcome:
    """Outcome of a spawned process; no dataclass, since Fabric would search its fields for tensors."""

    def __init__(self, result: Any = None, error: XclimbError | None = None):
        self.result, self.error = result, error


def _run_in_process(fabric: Fabric, precision: str, function: Callable[..., Any], args: tuple) -> _Outcome:
    """Run the function in a spawned process; an error of xclimb is passed on as it is, not as a traceback."""
    try:
        return _Outcome(function(Engine(fabric, precision), *args))
    except XclimbError as error:
        return _Outcome(error=error)


def _fabric(config: TransferConfig, strategy: str, launch: bool = True) -> Fabric:
    kind, _, number = config.device.partition(":")
    devices: Any = [int(number)] if number and config.devices == 1 else config.devices
    if number and config.devices > 1:
        raise ConfigError(f"device {config.device!r} is one device: use device='cuda' with devices={config.devices}")
    if kind == "mps" and config.devices > 1:
        raise ConfigError("device 'mps' is one device: leave devices out")
    plugins: Any = None if strategy == "ddp" else [LightningEnvironment()]
    more: Any = {"num_nodes": config.nodes, "plugins": plugins, "precision": _PRECISIONS[config.precision]}
    try:
        fabric = Fabric(accelerator=kind, devices=devices, strategy=strategy, **more)
        if launch:
            fabric.launch()
    except (ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot run on {config.devices} device(s) {kind!r} of {config.nodes} node(s): {reason}") from error
    return fabric


def first_process() -> bool:
    """Whether this process is the first, or only, one of those that torchrun or srun started."""
    if not started_from_outside():
        return True
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def started_from_outside() -> bool:
    """Whether torchrun or srun started this process as one of several."""
    return TorchElasticEnvironment.detect() or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def _lost_process_message(reason: str) -> str:
    reason = " ".join(reason.split())[:200]
    return f"a process of the training is lost ({reason}): what was saved is whole; go on from it with --resume"


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore the environment afterwards: spawning processes leaves a port in it, which may be in use next time."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


@contextmanager
def _pass_signals_on() -> Iterator[None]:
    """Forward SIGINT and SIGTERM to the spawned processes, which save and end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def passed(number: int, _: Any) -> None:
        import multiprocessing

        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    before = {number: signal.signal(number, passed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
