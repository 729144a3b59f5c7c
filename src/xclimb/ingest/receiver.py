"""Receiver of the results of tasks, in order: names, duplicates, level of theory, then the store and the table of rejects."""

import csv
import io
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.data.label_schema import LabelUse
from xclimb.data.store_writer import StoreWriter
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.files import to_csv
from xclimb.formats.base import Part, Reject, Source
from xclimb.ingest.audit import resolve_checks
from xclimb.ingest.names import Names
from xclimb.ingest.set_audit import ZERO_CHECKS, Files, Findings, is_comparable, rejects_of, without_labels
from xclimb.ingest.tasks import Done, Reading

if TYPE_CHECKING:
    import xclimb.models.potential

REJECTS, WARNINGS = "rejects.csv", "warnings.csv"
_PRINTS, _FILES = "fingerprints", "files.jsonl"
_HEADER = ["file", "frame_id", "index", "reason", "detail"]
_BETWEEN = 0.5  # seconds between checkpoints


class Receiver:
    """Collects the results of tasks into a store that can be resumed.

    Args:
        writer: the store; if it goes on from a checkpoint, so does the receiver.
        resolve: level of theory that a file states -> the one it gets.
        carry: rejects of an earlier ingest that stay in the table.
        skip_known: pass over frames that the store has already, instead of what is done about duplicates.
        duplicate: what is done about a frame that was there before: ``"reject"``, ``"warn"`` or ``"off"``.
    """

    def __init__(
        self,
        writer: StoreWriter,
        resolve: Callable[[LevelOfTheory, Source], LevelOfTheory],
        carry: Path | None = None,
        skip_known: bool = False,
        duplicate: str = "warn",
    ):
        self.writer, self.resolve, self.skip_known, self.duplicate = writer, resolve, skip_known, duplicate
        self.names, self.reasons, self.warned = Names(), Counter[str](), Counter[str]()
        self.others, self._others_here = Counter[str](), set[str]()  # files at levels of theory that were passed over
        self.tasks, self.n_out, self.path, self.known = 0, 0, "", set[int]()
        self.rows_before = 0  # frames in the store where the current file begins
        self.first_source = 0  # frames of the first file
        self.n_files = 0
        self.use, self.isolated = LabelUse(), 0
        self._last = time.monotonic()
        if writer.state is not None:
            self._resume(writer.state)
        elif carry is not None and carry.is_file():
            old = carry.read_bytes()
            writer.side(REJECTS).write(old)
            self.reasons.update(_reasons(old, carry))
        else:
            writer.side(REJECTS).write(_lines([_HEADER]))

    @property
    def n_rejected(self) -> int:
        """Frames rejected so far."""
        return self.reasons.total()

    def why(self) -> str:
        """The reasons of the rejects, and the way out where there is an option for it."""
        way = "; checks={'converged': 'warn'} keeps steps whose electrons did not converge" * ("not converged" in self.reasons)
        return ", ".join(f"{n} {reason}" for reason, n in self.reasons.most_common()) + way

    def take(self, done: Done) -> None:
        """Add the frames of a task, and list its rejects.

        Raises:
            TheoryError: if its level of theory is another than that of the frames before.
        """
        if str(done.source.path) != self.path:
            self.names.next_file()
            self._others_here = set()
            self.path, self.rows_before, self.n_files = str(done.source.path), self.n_out, self.n_files + 1
            self.writer.side(_FILES).write((json.dumps([self.n_out, self.path, done.source.kind]) + "\n").encode())
        self.others.update(done.others - self._others_here)
        self._others_here |= done.others
        for part, prints in zip(done.parts, done.fingerprints, strict=True):
            self._take(part, prints, done.source)
        if done.theory_error:
            raise TheoryError(done.theory_error)
        if done.error:
            self._list([Reject("", -1, "file cannot be read", done.error, str(done.source.path))])
        self.tasks += 1
        if self.n_files == 1:
            self.first_source = self.n_out
        if time.monotonic() - self._last > _BETWEEN:
            self.flush()

    def audit_set(self, potential: "str | xclimb.models.potential.Potential", reading: Reading) -> None:
        """Compare a sample of all frames with a potential; list the findings, and leave out frames that are rejected.

        torch is imported only if there is something to compare.

        Raises:
            DataError: if labels are in another unit than they were read in, unless that is to be a warning.
        """
        self.writer.side(_FILES).flush()
        files = Files.read(self.writer.work / _FILES, self.n_out)
        parts, groups, checks = self.writer.written(), files.groups(), resolve_checks(reading.checks)
        if not is_comparable(parts, groups, checks):
            return
        from xclimb.ingest.model_audit import ModelAudit

        findings = ModelAudit(potential)(parts, groups, checks, reading.limits)
        self._apply(findings, parts, files, reading, checks)

    def _apply(
        self, findings: Findings, parts: Sequence[Frames], files: Files, reading: Reading, checks: Mapping[str, str]
    ) -> None:
        """List findings, and leave out what is rejected."""
        named = np.unique(np.concatenate([[*findings.outliers], *(zero.rows for zero in findings.zeros)]).astype(np.int64))
        ids = np.concatenate([part.frame_id[:0] for part in parts] + [part.frame_id for part in parts if len(named)])
        rejects = rejects_of(findings, files, reading.units, {int(row): str(ids[row]) for row in named}, checks)
        wrong = [reject for reject in rejects if not reject.frame_id and reject.reason.endswith("unit")]  # of whole files
        if any(reject.action == "reject" for reject in wrong):
            raise DataError("; also ".join(reject.detail for reject in wrong))
        for reject in wrong:
            warnings.warn(reject.detail, XclimbWarning, stacklevel=2)
        self._list(rejects)
        zeros = [zero for zero in findings.zeros if checks[ZERO_CHECKS[zero.label]] == "reject"]
        out = [*findings.outliers] if checks["outlier"] == "reject" else []
        if zeros or out:
            kept = ~np.isin(np.arange(self.n_out), out)
            self.writer.rewrite(lambda frames, first: without_labels(frames, zeros, first)[kept[first : first + len(frames)]])
            self.n_out -= len(out)
            self.first_source -= sum(row < self.first_source for row in out)

    def flush(self) -> None:
        """Make a checkpoint."""
        self.writer.side(REJECTS)
        counts = {"reasons": dict(self.reasons), "warned": dict(self.warned), "others": dict(self.others)}
        places = [self.tasks, self.n_out, self.rows_before, self.first_source, self.n_files]
        here = sorted(self._others_here)
        labels = {"taken": self.use.taken, "left": self.use.left, "isolated": self.isolated}
        self.writer.checkpoint({"places": places, "path": self.path, "others_here": here, "labels": labels, **counts})
        self._last = time.monotonic()

    def _resume(self, state: dict) -> None:
        self.tasks, self.n_out, self.rows_before, self.first_source, self.n_files = state["places"]
        self.path, self.reasons, self.warned = state["path"], Counter(state["reasons"]), Counter(state["warned"])
        self.others, self._others_here = Counter(state["others"]), set(state["others_here"])
        labels = state["labels"]
        self.use, self.isolated = LabelUse(labels["taken"], labels["left"]), labels["isolated"]
        ids = self.writer.frame_ids()
        self.names.seen, self.names.own = set(ids[: self.rows_before]), set(ids[self.rows_before :])
        self.writer.side(REJECTS)
        self.writer.side(_FILES)
        if (self.writer.work / WARNINGS).is_file():
            self.writer.side(WARNINGS)
        prints = self.writer.work / _PRINTS
        if prints.is_file():
            self.writer.side(_PRINTS)
            self.known = set(np.fromfile(prints, dtype=np.uint64).tolist())

    def _take(self, part: Part, prints: np.ndarray, source: Source) -> None:
        self._list(part.rejects)
        self.use.add(part.use)
        if not len(part.frames):
            return
        frames = part.frames.with_theory(self.resolve(part.frames.theory, source))
        if len(prints):
            twice = self._twice(prints.tolist())
            self.writer.side(_PRINTS).write(prints[~twice].tobytes())
            if twice.any():
                frames = frames if self._keep(twice, part, source) else frames[~twice]
        if not len(frames):
            return
        frames = self.names.unique(frames, source.stem)
        try:
            self.writer.append(frames)
        except TheoryError as error:
            raise TheoryError(f"{source.path}: {error}") from None
        self.n_out += len(frames)
        self.isolated += int(is_isolated_atom(frames).sum())

    def _twice(self, prints: list[int]) -> np.ndarray:
        """Mark frames that were there already ``[S]``."""
        twice = np.zeros(len(prints), dtype=bool)
        for s, number in enumerate(prints):
            twice[s] = number in self.known
            self.known.add(number)
        return twice

    def _keep(self, twice: np.ndarray, part: Part, source: Source) -> bool:
        """Whether frames that were there already are kept; they are listed, unless they are only passed over."""
        if self.skip_known and self.n_files > 1:
            return False
        ids = part.frames.frame_id
        what = "the same structure and labels as a frame before"
        self._list(
            [
                Reject(str(ids[s]), int(part.places[s]), "duplicate", what, str(source.path), self.duplicate)
                for s in np.flatnonzero(twice)
            ]
        )
        return self.duplicate != "reject"

    def _list(self, rejects: Sequence[Reject]) -> None:
        for name, action, counter in ((REJECTS, "reject", self.reasons), (WARNINGS, "warn", self.warned)):
            chosen = [reject for reject in rejects if reject.action == action]
            if not chosen:
                continue
            if name == WARNINGS and not self.warned:
                self.writer.side(name).write(_lines([_HEADER]))
            self.writer.side(name).write(_lines([[r.file, r.frame_id, r.index, r.reason, r.detail] for r in chosen]))
            counter.update(reject.reason for reject in chosen)


def _reasons(table: bytes, path: Path) -> list[str]:
    """The reasons in a table of rejects."""
    try:
        return [row["reason"] for row in csv.DictReader(io.StringIO(table.decode(), newline=""))]
    except (UnicodeDecodeError, KeyError, csv.Error):
        raise DataError(f"{path} is no table of rejects: restore it from a copy, or remove it to append without it") from None


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    return to_csv(rows, lineterminator="\r\n").encode("utf-8", errors="replace")
