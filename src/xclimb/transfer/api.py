"""``xclimb.transfer``, the public function; importing it imports nothing heavy, so that the registry of methods is light."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xclimb.data.convert import FramesLike
    from xclimb.models.potential import Potential
    from xclimb.runs.folder import Run
    from xclimb.transfer.job import OnEpoch


def transfer(
    source: "str | Path | Potential" = "chgnet-0.3.0",
    train: "FramesLike | None" = None,
    val: "FramesLike | None" = None,
    method: str | Mapping[str, Any] = "l2sp",
    out: str | Path | None = None,
    epochs: int | None = None,
    seed: int = 0,
    *,
    test: "FramesLike | None" = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    on_epoch: "OnEpoch | None" = None,
    **settings: Any,
) -> "Run":
    """Transfer a pre-trained potential to the level of theory of the training frames.

    Args:
        source: zoo name, path of a potential or run folder, or a Potential; ``scratch`` takes only its architecture.
            ``"auto"``: the one of the zoo that is best on the training frames before any step (:func:`xclimb.rank_sources`).
        train: labelled frames, or a list of ASE atoms with labels; labels that are missing are masked.
        val: frames to judge the training by, at the same level of theory. None: the default method trains four networks on up
            to 1,000 frames, each without a part of the materials, which judges it, and averages their weights
            (``validation={"folds": 4}``); else a tenth of ``train`` is put aside, by material, or in blocks of frames where
            there are too few (``validation={"by": "frame", "fraction": 0.2}``).
        method: name of a method, as in ``xclimb.transfer.methods.METHODS`` (Methods 1 to 4 of arXiv 2504.05565 are
            ``scratch``, ``trainable``, ``frozen`` and ``refit``), or name and settings:
            ``{"name": "trainable", "references_lr": 0.01}``.
        out: run folder, new or empty; ``runs/<method>-<seed>`` by default.
        epochs: passes over the training frames; None: those of the method (50, the paper's; ``l2sp``: 25); 0 only exchanges
            the references.
        seed: of new weights, of the order of the frames and of the split; same seed, machine and number of threads, same
            numbers.
        test: frames that neither training nor the choice of the epoch sees; evaluated once, at the end: ``Run.test``.
        overwrite: replace a run that is in the folder already.
        resume: go on with the run in the folder, interrupted or killed, from its last saved state; settings and frames must
            be the same. On one process what comes out is, bit for bit, what the run would have given undisturbed.
        progress: show a progress bar, if the output is a terminal.
        on_epoch: called with each line of metrics.jsonl as it is written.
        settings: any other field of :class:`xclimb.config.TransferConfig`, nested ones as ``loss={"energy": 2}``.

    Returns:
        The run. Of its potential neither energy, forces, stress nor moments are worse than at step 0 on the validation frames,
        beyond the 95 % interval over materials (``guard="each"``); it may be step 0, the source with the references of the
        method. After Ctrl-C or SIGTERM, which save the state first, the run so far with ``interrupted`` set.

    Raises:
        ConfigError: on settings that are unknown, of the wrong kind or without effect, a folder that is in use, or settings
            that are not those of the run to go on with.
        DataError: on empty sets, no energies, unsupported elements, frames in two sets, or a loss that is not finite.
        TrainingError: if a process is lost, memory is out, or the folder can no longer be written to.
        TheoryError: if the functional of the frames is not known, or the two sets are at different levels of theory.
        ReferencesError: if the references cannot be fitted or do not cover the frames.
    """
    from xclimb.config import TransferConfig
    from xclimb.models.potential import Potential
    from xclimb.transfer.fit import run_transfer

    name = source.name if isinstance(source, Potential) else str(source)
    named = {"source": name, "method": method, "seed": seed} | ({} if epochs is None else {"epochs": epochs})
    config = TransferConfig.build(named | settings)
    potential = source if isinstance(source, Potential) else None
    more: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "progress": progress, "on_epoch": on_epoch}
    more["test"] = test
    return run_transfer(config, train, val, out, potential, **more)
