"""What is checked before the first step: each refusal is one sentence that names the frame and the way out."""

import numpy as np

from xclimb.data.frames import COLUMNS, LABELS, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.data.splits import SplitError, split_frames
from xclimb.errors import DataError, TheoryError
from xclimb.models.chgnet import MAX_Z
from xclimb.models.potential import Potential

_NAMED = 5  # how many names a message lists


def set_isolated_atoms_aside(train: Frames, val: Frames | None) -> tuple[Frames, Frames | None, list[str]]:
    """Training and validation frames without isolated atoms, which are no material, and a note where there were any.

    Raises:
        DataError: if nothing else is in a set.
    """
    train, notes = _without_isolated_atoms(train, "training")
    if val is None:
        return train, None, notes
    val, more = _without_isolated_atoms(val, "validation")
    return train, val, notes + more


def _without_isolated_atoms(frames: Frames, name: str) -> tuple[Frames, list[str]]:
    alone = is_isolated_atom(frames)
    if not alone.any():
        return frames, []
    if alone.all():
        raise DataError(f"the {name} set holds isolated atoms only: give frames of materials")
    symbols = frames[alone].formulas().tolist()
    listed = ", ".join(symbols[:_NAMED]) + (", ..." if len(symbols) > _NAMED else "")
    return frames[~alone], [
        f"{len(symbols)} isolated atom(s) in the {name} set ({listed}) are left out of training and errors."
    ]


def split_off_validation(frames: Frames, seed: int) -> tuple[Frames, Frames]:
    """Nine tenths of the materials to train on, one tenth to validate on.

    Raises:
        DataError: if there are no energies, or too few materials to split.
    """
    _check_present(frames, "training")
    try:
        split = split_frames(frames, ratios=(0.9, 0.1, 0.0), by="material", seed=seed)
    except SplitError as problem:
        raise DataError(f"no validation frames can be put aside ({problem.why}): give val=..., or more materials") from None
    train, val, _ = split.apply(frames)
    if not len(train) or not len(val):
        materials = len(np.unique(frames.material_id))
        raise DataError(f"{materials} material(s) cannot be split into training and validation: give val=...")
    return train, val


def check_data(train: Frames, val: Frames) -> list[str]:
    """Refuse what cannot be trained on; gives notes on what can but should be known.

    Raises:
        DataError: on empty sets, no energies, infinite labels, unsupported elements, or frames in both sets.
        TheoryError: on an unknown functional, or two levels of theory.
    """
    for frames, name in ((train, "training"), (val, "validation")):
        _check_present(frames, name)
        _check_atoms(frames, name)
        _check_labels(frames, name)
    if train.theory.functional is None:
        raise TheoryError(
            "the functional of the training frames is not known: say it where they are read, with functional='r2SCAN' if that "
            "is theirs"
        )
    train.theory.require_same(val.theory, "training and validation frames")
    _check_leak(train, val)
    return _notes(train, val)


def _check_present(frames: Frames, name: str) -> None:
    if not len(frames):
        raise DataError(f"the {name} set is empty: give at least one labelled frame")
    if not frames.has("energy"):
        raise DataError(f"no {name} frame has an energy: read a file with energies, or name its key with energy_key=...")


def _check_atoms(frames: Frames, name: str) -> None:
    empty = np.flatnonzero(frames.n_atoms == 0)
    if len(empty):
        raise DataError(f"{name} frame {frames.frame_id[empty[0]]} has no atoms: remove it")
    bad = np.flatnonzero((frames.numbers < 1) | (frames.numbers > MAX_Z))
    if len(bad):
        from ase.data import chemical_symbols

        z = int(frames.numbers[bad[0]])
        symbol = f" ({chemical_symbols[z]})" if 0 < z < len(chemical_symbols) else ""
        raise DataError(
            f"{name} frame {frames.frame_id[frames.system[bad[0]]]} contains atomic number {z}{symbol}, which the network does "
            f"not know (1 to {MAX_Z}): remove the frames with it"
        )


def _check_labels(frames: Frames, name: str) -> None:
    for label in LABELS:
        value = getattr(frames, label)
        rows = np.flatnonzero(np.isinf(value).reshape(len(value), -1).any(axis=1))
        if len(rows):
            s = rows[0] if COLUMNS[label].scope == "system" else frames.system[rows[0]]
            told = "remove the frame, or put NaN where a label is missing"
            raise DataError(f"{name} frame {frames.frame_id[s]}: {label} is infinite; {told}")


def _check_leak(train: Frames, val: Frames) -> None:
    """The same frame in both sets; ids that were only counted up ("frame-3") say nothing, there the structure decides."""
    same_id = np.intersect1d(train.frame_id, val.frame_id).tolist()
    shared = [name for name in same_id if not _counted(name) or _same_structure(train, val, name)]
    if shared:
        listed = ", ".join(shared[:_NAMED]) + (", ..." if len(shared) > _NAMED else "")
        raise DataError(
            f"{len(shared)} frame(s) are in the training and in the validation set ({listed}): "
            "split with xclimb.split_frames(frames)"
        )


def _counted(frame_id: str) -> bool:
    return frame_id.startswith("frame-") and frame_id.removeprefix("frame-").isdigit()


def _same_structure(train: Frames, val: Frames, frame_id: str) -> bool:
    one, other = (frames[np.flatnonzero(frames.frame_id == frame_id)[:1]] for frames in (train, val))
    return np.array_equal(one.numbers, other.numbers) and np.allclose(one.positions, other.positions, rtol=0, atol=1e-8)


def _notes(train: Frames, val: Frames) -> list[str]:
    notes = []
    materials = np.intersect1d(train.material_id, val.material_id)
    if len(materials) and not all(_counted(name) for name in materials.tolist()):
        listed = ", ".join(materials[:_NAMED].tolist()) + (", ..." if len(materials) > _NAMED else "")
        notes.append(f"{len(materials)} material(s) are in both sets ({listed}): the validation errors are optimistic.")
    missing = [label for label in LABELS if not train.has(label)]
    return notes + [f"No training frame has {label}: that part of the loss is 0." for label in missing]


def coverage_notes(start: Potential, train: Frames, val: Frames) -> list[str]:
    """Names the elements of the validation frames that no training frame contains."""
    from ase.data import chemical_symbols

    named = [chemical_symbols[z] for z in np.setdiff1d(val.elements, train.elements).tolist()]
    if not named:
        return []
    return [
        f"No training frame contains {', '.join(named)}: the references of {start.name} for them are kept from the source, "
        "and energies of validation frames with them are not meaningful."
    ]
