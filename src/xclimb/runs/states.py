"""Training states for bit-exact resume: tensors in safetensors, the rest in JSON, never pickle.

``checkpoints/states/step-<number>/`` holds ``state.safetensors`` (weights, moments of the optimiser, average, best weights)
and ``state.json`` (place in the epoch, history, scalars of the optimiser, settings, checksums). A state is written beside its
place and renamed; the last three are kept. The order of the frames is a function of the seed, the epoch and the place, and
no step draws a random number: there is no generator to save.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from xclimb.errors import CheckpointError
from xclimb.files import remove_leftovers, write_folder
from xclimb.training.trainer import Trainer

FORMAT = 1
KEPT = 3
_CARD, _TENSORS = "state.json", "state.safetensors"
_COUNTERS = ("epoch", "place", "step", "seconds", "history", "best_epoch", "best_loss")


class Saved(NamedTuple):
    """A state as it was read: tensors by name, the rest, and a sentence about each newer state that is damaged."""

    tensors: dict[str, Tensor]
    card: dict[str, Any]
    notes: list[str]


def state_of(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of a trainer: tensors by name, and the rest as JSON values."""
    tensors = {f"trained/{name}": value for name, value in trainer.trained.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in trainer.best_weights.items()}
    tensors |= {f"last/{name}": value for name, value in trainer.last_weights.items()}
    tensors["sums"] = trainer.sums.table
    if trainer.average is not None:
        tensors |= {f"average/{name}": value for name, value in trainer.average.state_dict().items()}
    state = trainer.optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if torch.is_tensor(value):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    card = {name: getattr(trainer, name) for name in _COUNTERS}
    return tensors, card | {"optimizer": {"groups": state["param_groups"], "scalars": scalars}}


def restore(trainer: Trainer, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Restore a trainer from a state.

    Raises:
        CheckpointError: if the state is one of another network, optimiser or kind of run.
    """
    try:
        trainer.trained.load_state_dict(_part(tensors, "trained/"))
        trainer.best_weights = {name: value.to(trainer.engine.device) for name, value in _part(tensors, "best/").items()}
        trainer.last_weights = {name: value.to(trainer.engine.device) for name, value in _part(tensors, "last/").items()}
        trainer.sums.table.copy_(tensors["sums"])
        if trainer.average is not None:
            trainer.average.load_state_dict(_part(tensors, "average/"))
        _restore_optimizer(trainer.optimizer, _part(tensors, "optimizer/"), card["optimizer"])
        for name in _COUNTERS:
            setattr(trainer, name, card[name])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise CheckpointError(f"the saved state is not one of this run ({reason}): start the run again") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor], card: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in card["scalars"].items()}
    for name, value in moments.items():
        index, _, entry = name.partition("/")
        state.setdefault(int(index), {})[entry] = value
    groups = []
    for saved, fresh in zip(card["groups"], optimizer.state_dict()["param_groups"], strict=True):
        # JSON has no tuples: what is one in the fresh optimiser becomes one again
        groups.append({name: tuple(value) if isinstance(fresh.get(name), tuple) else value for name, value in saved.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


class States:
    """The saved states of one run folder.

    Args:
        folder: ``checkpoints/states``; made when the first state is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, tensors: dict[str, Tensor], card: dict[str, Any]) -> Path:
        """Save a state under the number of its step; only the last three stay.

        Raises:
            OSError: if the disk is full or not writable; the states before are whole.
        """
        content = tensor_bytes({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        card = card | {"format": FORMAT, "tensors_sha256": hashlib.sha256(content).hexdigest()}
        text = json.dumps({"sha256": _digest(card), "state": card}, allow_nan=False)
        place = self.folder / f"step-{card['step']:09d}"
        write_folder(place, {_TENSORS: content, _CARD: text.encode()})
        for old in self._places()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return place

    def _places(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def newest(self) -> Saved | None:
        """The last state that is whole; None if there never was one.

        Raises:
            CheckpointError: if all are damaged, or one was written by a newer xclimb.
        """
        notes: list[str] = []
        for place in reversed(self._places()):
            try:
                tensors, card = read_state(place)
            except _DamagedError as error:
                notes.append(f"{error}: going back to the state before it.")
                continue
            return Saved(tensors, card, notes)
        if notes:
            raise CheckpointError(f"no saved state in {self.folder} is whole ({notes[0].split(':')[0]}): start the run again")
        return None

    def tidy(self) -> None:
        """Remove what a killed process left half-written."""
        for folder in (self.folder, self.folder.parent):
            remove_leftovers(folder)

    def clear(self) -> None:
        """Remove all states: a finished run has nothing to go on with."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _DamagedError(CheckpointError):
    """A state that cannot be read, where the one before may."""


def read_state(place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and card of one state.

    Raises:
        CheckpointError: naming the folder, if it is damaged or was written by a newer xclimb.
    """
    try:
        outer = json.loads((place / _CARD).read_bytes())
        content = (place / _TENSORS).read_bytes()
        card = outer["state"]
        version = card["format"]
        if isinstance(version, int) and version > FORMAT:
            detail = f"format {version}, this one reads {FORMAT}"
            raise CheckpointError(f"{place} was written by a newer xclimb ({detail}): upgrade xclimb")
        if outer["sha256"] != _digest(card):
            raise _DamagedError(f"{place / _CARD} is damaged (its checksum is not the one in it)")
        if card["tensors_sha256"] != hashlib.sha256(content).hexdigest():
            raise _DamagedError(f"{place / _TENSORS} is damaged (its checksum is not the one in {_CARD})")
        return read_tensors(content), card
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise _DamagedError(f"{place} is damaged ({type(error).__name__})") from None


def _digest(card: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
