"""Checks before the first step: each refusal is one sentence that names the frame and the way out."""

import numpy as np

from xclimb.config import TransferConfig
from xclimb.data.frames import COLUMNS, LABELS, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.data.splits import SplitError, propose_split
from xclimb.errors import ConfigError, DataError, TheoryError, counted
from xclimb.ingest.reading import read
from xclimb.models.potential import Potential
from xclimb.transfer.methods import OtherFrames, get_method

SET_NAMES = {"train": "training", "val": "validation", "test": "test", "replay": "replay"}  # argument -> set
_NAMED = 5  # how many names a message lists


def material_frames(frames: Frames, argument: str, described: str | None = None) -> tuple[Frames, list[str]]:
    """Frames of materials, isolated atoms left out, and a note where there were any.

    Args:
        frames: any.
        argument: name of the set in :data:`SET_NAMES`.
        described: name of the set for messages, if it is another.

    Raises:
        DataError: if nothing else is in the set.
    """
    name, alone = described or SET_NAMES[argument], is_isolated_atom(frames)
    if not alone.any():
        return frames, []
    if alone.all():
        raise DataError(f"the {name} set holds isolated atoms only: give frames of materials")
    symbols = frames[alone].formulas().tolist()
    listed = ", ".join(symbols[:_NAMED]) + (", ..." if len(symbols) > _NAMED else "")
    return frames[~alone], [f"{counted(len(symbols), 'isolated atom')} in the {name} set ({listed}): left out of it."]


def split_off_validation(frames: Frames, config: TransferConfig, progress: bool = False) -> tuple[Frames, Frames, list[str]]:
    """Training frames, validation frames, and notes on how they were split, as ``config.validation`` says.

    Raises:
        DataError: if there are no energies, or too few materials and frames to split.
    """
    _check_present(frames, "training")
    how = config.validation
    shares = (1 - how.fraction, how.fraction, 0.0)
    try:
        split = propose_split(frames, shares, how.by, config.seed, how.cover, group=how.group, gap=how.gap, progress=progress)
    except SplitError as problem:
        raise DataError(f"no validation frames can be put aside ({problem.why}): give val=..., or more frames") from None
    return frames[split.train], frames[split.val], list(split.notes)


def check_no_effect(config: TransferConfig) -> None:
    """Refuse settings of how validation frames are put aside where they are given.

    Raises:
        ConfigError: naming the setting.
    """
    for name, info in type(config.validation).model_fields.items():
        if getattr(config.validation, name) != info.default:
            raise ConfigError(f"validation.{name} has no effect where validation frames are given: leave one of the two out")


def check_levels(train: Frames, val: Frames | None, test: Frames | None) -> None:
    """Refuse sets of an unknown or of different levels of theory, before anything is computed.

    Raises:
        TheoryError: naming what is missing, or what differs.
    """
    if train.theory.functional is None:
        raise TheoryError(
            "the functional of the training frames is not known: say it where they are read, with functional='r2SCAN' if that "
            "is theirs"
        )
    for argument, frames in (("val", val), ("test", test)):
        if frames is not None:
            train.theory.require_same(frames.theory, f"training and {SET_NAMES[argument]} frames")


def replay_frames(config: TransferConfig) -> Frames | None:
    """Structures for replay as ``config.replay`` says, without labels; None where the training frames are all there is.

    Raises:
        ConfigError: if the method does not start from the network of the source.
        DataError: if there are none, or they cannot be read.
    """
    name = config.method.name
    if config.replay.fraction and get_method(name).new_weights:
        raise ConfigError(f"replay.fraction has no effect with method {name!r}, which has new weights: leave it out")
    if config.replay.structures is None:
        return None
    frames = read(config.replay.structures, labels="ignored")
    if not len(frames):
        raise DataError(f"replay.structures {config.replay.structures} holds no structure: give others, or leave it out")
    return frames


def check_others(others: OtherFrames, train: Frames, val: Frames | None, test: Frames | None) -> tuple[OtherFrames, list[str]]:
    """Frames of other functionals without isolated atoms, checked, and notes on them.

    Raises:
        ConfigError: if they are of the functional of the training frames.
        DataError: as :func:`check_data`.
    """
    notes: list[str] = []
    kept: dict[str, dict[str, Frames]] = {}
    for part, name in (("train", "training"), ("val", "validation")):
        kept[part] = {}
        for functional, frames in getattr(others, part).items():
            described = f"{functional} {name}"
            if functional == train.theory.functional:
                raise ConfigError(f"the {described} frames are of the functional of the training frames: give them as such")
            _check_present(frames, described)
            _check_atoms(frames, described)
            _check_labels(frames, described)
            kept[part][functional], more = material_frames(frames, part, described)
            notes += more
    for functional, frames in kept["train"].items():
        if functional in kept["val"]:
            _check_leak(frames, kept["val"][functional], f"{functional} training", f"{functional} validation")
        for name, held in (("validation", val), ("test", test)):
            same = 0 if held is None else len(np.intersect1d(frames.material_id, held.material_id))
            if same:
                notes.append(f"{counted(same, 'material')} of the {name} set in the {functional} training set, at its labels.")
    return OtherFrames(kept["train"], kept["val"]), notes


def check_data(train: Frames, val: Frames, test: Frames | None = None) -> list[str]:
    """Refuse what cannot be trained on; gives notes on what can but should be known.

    Raises:
        DataError: on empty sets, no energies, infinite labels, or frames in two sets.
        TheoryError: on an unknown functional, or two levels of theory.
    """
    held_out = {"validation": val} | ({} if test is None else {"test": test})
    for name, frames in {"training": train, **held_out}.items():
        _check_present(frames, name)
        _check_atoms(frames, name)
        _check_labels(frames, name)
    check_levels(train, val, test)
    notes = []
    for name, frames in held_out.items():
        _check_leak(train, frames, "training", name)
        notes += _shared_materials(train, frames, name)
    if test is not None:
        _check_leak(val, test, "validation", "test")
    missing = [label for label in LABELS if not train.has(label)]
    return notes + [f"No training frame has {label}: that part of the loss is 0." for label in missing]


def _check_present(frames: Frames, name: str) -> None:
    if not len(frames):
        raise DataError(f"the {name} set is empty: give at least one labelled frame")
    if not frames.has("energy"):
        raise DataError(f"no {name} frame has an energy: read a file with energies, or name its key with energy_key=...")


def _check_atoms(frames: Frames, name: str) -> None:
    empty = np.flatnonzero(frames.n_atoms == 0)
    if len(empty):
        raise DataError(f"{name} frame {frames.frame_id[empty[0]]} has no atoms: remove it")


def check_elements(source: Potential, frames: Frames, name: str) -> None:
    """Refuse frames with elements that the network has no parameters for.

    Raises:
        DataError: naming the frame and the element.
    """
    bad = np.flatnonzero(source.architecture.unknown(frames.numbers))
    if len(bad):
        from ase.data import chemical_symbols

        z = int(frames.numbers[bad[0]])
        symbol = f" ({chemical_symbols[z]})" if 0 < z < len(chemical_symbols) else ""
        raise DataError(
            f"{name} frame {frames.frame_id[frames.system[bad[0]]]} contains atomic number {z}{symbol}, which the network does "
            f"not know ({source.architecture.element_range}): remove the frames with it"
        )


def _check_labels(frames: Frames, name: str) -> None:
    for label in LABELS:
        value = getattr(frames, label)
        rows = np.flatnonzero(np.isinf(value).reshape(len(value), -1).any(axis=1))
        if len(rows):
            s = rows[0] if COLUMNS[label].scope == "system" else frames.system[rows[0]]
            remedy = "remove the frame, or put NaN where a label is missing"
            raise DataError(f"{name} frame {frames.frame_id[s]}: {label} is infinite; {remedy}")


def _check_leak(train: Frames, val: Frames, name: str, other: str) -> None:
    """Refuse the same frame in both sets: one id and one structure; files of one name give other frames equal ids."""
    same_id, rows, others = np.intersect1d(train.frame_id, val.frame_id, return_indices=True)
    pairs = zip(same_id.tolist(), rows.tolist(), others.tolist(), strict=True)
    shared = [name for name, row, held in pairs if _same_structure(train[row : row + 1], val[held : held + 1])]
    if shared:
        listed = ", ".join(shared[:_NAMED]) + (", ..." if len(shared) > _NAMED else "")
        raise DataError(
            f"{counted(len(shared), 'frame')} in the {name} set and in the {other} set as well ({listed}): "
            "split with xclimb.split_frames(frames)"
        )


def _counted(frame_id: str) -> bool:
    return frame_id.startswith("frame-") and frame_id.removeprefix("frame-").isdigit()


def _same_structure(one: Frames, other: Frames) -> bool:
    return np.array_equal(one.numbers, other.numbers) and np.allclose(one.positions, other.positions, rtol=0, atol=1e-8)


def _shared_materials(train: Frames, other: Frames, name: str) -> list[str]:
    materials = np.intersect1d(train.material_id, other.material_id)
    if not len(materials) or all(_counted(name) for name in materials.tolist()):
        return []
    listed = ", ".join(materials[:_NAMED].tolist()) + (", ..." if len(materials) > _NAMED else "")
    return [
        f"{counted(len(materials), 'material')} in the training and the {name} set ({listed}): {name} errors are optimistic."
    ]


def coverage_notes(start: Potential, train: Frames, val: Frames, name: str = "validation") -> list[str]:
    """Names the elements of the validation (or other) frames that no training frame contains."""
    from ase.data import chemical_symbols

    named = [chemical_symbols[z] for z in np.setdiff1d(val.elements, train.elements).tolist()]
    if not named:
        return []
    return [
        f"No training frame contains {', '.join(named)}: the references of {start.name} for them are kept from the source, "
        f"and energies of {name} frames with them are not meaningful."
    ]
