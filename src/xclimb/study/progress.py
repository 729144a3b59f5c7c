"""The progress of a grid of transfers: one bar for all, one for each that runs."""

from types import TracebackType
from typing import Any, Self


class GridBar:
    """Epochs done over all cells, and the validation errors of those at work; silent where the output is no terminal.

    Args:
        epochs: epochs of each cell by name.
        show: False for silence.
    """

    def __init__(self, epochs: dict[str, int], show: bool = True):
        from rich.console import Console

        self._epochs = epochs
        self._done = dict.fromkeys(epochs, 0)
        self._tasks: dict[str, Any] = {}
        console = Console(stderr=True)
        self._bar = _columns(console) if show and console.is_terminal else None
        self._all = self._bar.add_task("all", total=max(sum(epochs.values()), 1), errors="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, name: str, line: dict[str, Any]) -> None:
        """A cell has done another epoch."""
        if not self._bar:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=max(self._epochs[name], 1), errors="")
        energy, forces = line["val"]["energy_mae"], line["val"]["forces_mae"]
        told = "" if energy is None else f"val {energy:.1f} meV/atom"
        told += "" if forces is None else f" {forces:.1f} meV/Å"
        self._bar.update(self._tasks[name], completed=line["epoch"], errors=told)
        self._count(name, line["epoch"])

    def finish(self, name: str) -> None:
        """A cell is finished: its own bar goes."""
        if self._bar and name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name))
        self._count(name, self._epochs[name])

    def _count(self, name: str, epoch: int) -> None:
        self._done[name] = epoch
        if self._bar and self._all is not None:
            self._bar.update(self._all, completed=sum(self._done.values()))


def _columns(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[errors]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
