"""The outcome of an ingest: :class:`IngestSummary`."""

from dataclasses import dataclass, field
from pathlib import Path

from xclimb.data.label_schema import LabelUse
from xclimb.data.theory import LevelOfTheory


@dataclass(frozen=True)
class IngestSummary:
    """Counts of an ingest: ``n_in == n_out + n_rejected``.

    Args:
        n_in: frames read; a file that cannot be read (on) counts as one.
        n_out: frames in the store.
        n_rejected: frames rejected.
        rejects_path: table of the rejected, by file, name and reason (CSV).
        path: the store.
        reasons: reason -> how many.
        files: files read.
        passed: files of the folders that were passed over: hidden, of no known format, or repeating a VASP calculation.
        theory: level of theory of the store.
        warned: reason -> how many frames were kept with a warning; ``warnings.csv`` in the store names them.
        resumed: tasks that an interrupted ingest had done already.
        others: level of theory -> files that hold frames at it, which were passed over.
        labels: keys that were read as labels, where they are not the usual, and keys that name labels and were not read.
        isolated: frames kept that are isolated atoms.
        notes: what should be known of the store, a sentence each.
    """

    n_in: int
    n_out: int
    n_rejected: int
    rejects_path: Path
    path: Path
    reasons: dict[str, int] = field(default_factory=dict)
    files: int = 0
    passed: tuple[Path, ...] = ()
    theory: LevelOfTheory = field(default_factory=LevelOfTheory)
    warned: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    others: dict[str, int] = field(default_factory=dict)
    labels: LabelUse = field(default_factory=LabelUse)
    isolated: int = 0
    notes: tuple[str, ...] = ()
