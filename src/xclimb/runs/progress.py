"""Progress bars: of one training here, of a grid of them in :mod:`xclimb.study.progress`."""

from types import TracebackType
from typing import Any, Self


class TerminalBar:
    """A rich progress display on stderr; nothing at all where that is no terminal.

    Args:
        show: False for silence.
    """

    def __init__(self, show: bool = True):
        from rich.console import Console

        console = Console(stderr=True)
        self._bar = _columns(console) if show and console.is_terminal else None

    @property
    def shown(self) -> bool:
        """Whether there is anything to see."""
        return self._bar is not None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()


class EpochBar(TerminalBar):
    """Epochs and steps done, atoms a second, validation errors, best epoch and time left of one training.

    Args:
        title: shown before the bar.
        epochs: how many there will be.
        show: False for silence.
    """

    def __init__(self, title: str, epochs: int, show: bool = True):
        super().__init__(show)
        self._reported, self._pace = "", ""
        self._task = self._bar.add_task(title, total=float(max(epochs, 1)), errors="") if self._bar else None

    def step(self, epoch: int, place: int, steps: int, number: int, atoms_per_second: int) -> None:
        """Show a step: its place in the epoch, its number, and how fast it was."""
        self._pace = f"step {number:,} · {atoms_per_second:,} atoms/s · "
        self._update(epoch + place / max(steps, 1))

    def show(self, line: dict[str, Any], best_epoch: int) -> None:
        """Show one line of the history."""
        self._reported = f"val {_errors(line['val'])} · best epoch {best_epoch}"
        self._update(float(line["epoch"]))

    def _update(self, done: float) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, errors=self._pace + self._reported)

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        if self._bar:
            self._bar.console.print(sentence, highlight=False)


def _errors(val: dict[str, Any]) -> str:
    shown = (("energy_mae", "meV/atom", ".1f"), ("forces_mae", "meV/Å", ".1f"), ("stress_mae", "GPa", ".2f"))
    return " ".join(f"{val[key]:{digits}} {unit}" for key, unit, digits in shown if val[key] is not None)


def _columns(console):
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.4g}/{task.total:.0f}"),
        TextColumn("{task.fields[errors]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
