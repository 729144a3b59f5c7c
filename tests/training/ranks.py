"""What several processes do in the tests of the engine; importable, because started processes import it."""

from pathlib import Path

import numpy as np

from training.tiny import rock_salts, toy
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import get_method

SETTINGS = {"method": "trainable", "epochs": 2, "batch_size": 5, "dtype": "float64", "accumulate": 2, "ema_decay": 0.5}


def ragged():
    """Frames with labels missing here and there, so that a mean over processes of means would be another number."""
    frames = rock_salts(9)
    energy, forces, magmoms = frames.energy.copy(), frames.forces.copy(), frames.magmoms.copy()
    energy[[0, 2, 3]], forces[5:9], magmoms[:7] = np.nan, np.nan, np.nan
    return frames.replace(energy=energy, forces=forces, magmoms=magmoms)


def gradients_and_weights(engine, devices: int, file: Path) -> None:
    """The gradient of the first step, the history and the final weights of a short training in float64, into a file.

    With several processes it ends in an error, for the test of what becomes of that.
    """
    config = TransferConfig.build(SETTINGS | {"devices": devices})
    frames = ragged()
    method = get_method("trainable")
    start = method.prepare(toy().to(dtype="float64"), frames, config.method, 0)
    trainer = Trainer(config, start, frames, rock_salts(3, seed=1), engine, method)
    trainer.close_epoch()
    first = None
    while not trainer.done:
        for _ in trainer.steps():
            first = first or {
                name: p.grad.numpy().copy() for name, p in trainer.trained.named_parameters() if p.grad is not None
            }
        trainer.close_epoch()
    if engine.is_rank_zero:
        weights = {f"weight/{name}": value.numpy() for name, value in trainer.last_weights.items()}
        gradients = {f"gradient/{name}": value for name, value in first.items()}
        errors = [list(line[part].values()) for line in trainer.history[1:] for part in ("train", "val")]
        np.savez(file, errors=np.array(errors), **weights, **gradients)
    if devices > 1:
        raise ConfigError("on purpose")
