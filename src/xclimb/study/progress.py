"""The progress of a grid of transfers: one bar for all, one for each that runs."""

from typing import Any

from xclimb.runs.progress import TerminalBar


class GridBar(TerminalBar):
    """Epochs done over all trials, and the validation errors of those at work.

    Args:
        epochs: epochs of each trial by name.
        show: False for silence.
    """

    def __init__(self, epochs: dict[str, int], show: bool = True):
        super().__init__(show)
        self._epochs = epochs
        self._done = dict.fromkeys(epochs, 0)
        self._tasks: dict[str, Any] = {}
        self._all = self._bar.add_task("all", total=max(sum(epochs.values()), 1), errors="") if self._bar else None

    def show(self, name: str, line: dict[str, Any]) -> None:
        """Show another epoch of a trial."""
        if not self._bar:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=max(self._epochs[name], 1), errors="")
        energy, forces = line["val"]["energy_mae"], line["val"]["forces_mae"]
        text = "" if energy is None else f"val {energy:.1f} meV/atom"
        text += "" if forces is None else f" {forces:.1f} meV/Å"
        self._bar.update(self._tasks[name], completed=line["epoch"], errors=text)
        self._count(name, line["epoch"])

    def finish(self, name: str) -> None:
        """Remove the bar of a finished trial."""
        if self._bar and name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name))
        self._count(name, self._epochs[name])

    def _count(self, name: str, epoch: int) -> None:
        self._done[name] = epoch
        if self._bar and self._all is not None:
            self._bar.update(self._all, completed=sum(self._done.values()))
