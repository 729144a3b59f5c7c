"""``report --watch``: progress of a training, in text, from its run folder alone, until it ends."""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.cli.shell import console
from xclimb.cli.tables import number

if TYPE_CHECKING:
    from rich.console import Group

REFRESH = 2.0  # seconds
_SHOWN = 12  # epochs in the table
_COLUMNS = (("energy_mae", 1), ("forces_mae", 1), ("stress_mae", 3), ("magmom_mae", 3))


def watch(folder: Path, refresh: float = REFRESH) -> None:
    """Show the run until it is no longer running; on a terminal in place, else once an epoch.

    Raises:
        CheckpointError: if the folder holds no run, or it is damaged.
    """
    screen = console()
    if screen.is_terminal:
        from rich.live import Live

        with Live(console=screen, refresh_per_second=4) as live:
            while True:
                state = look(folder)
                live.update(summary(state))
                if not state["running"]:
                    return
                time.sleep(refresh)
    shown = -1
    while True:
        state = look(folder)
        if len(state["history"]) > shown or not state["running"]:
            shown = len(state["history"])
            screen.print(summary(state))
        if not state["running"]:
            return
        time.sleep(refresh)


def look(folder: Path) -> dict[str, Any]:
    """Read the present state of a run folder.

    Raises:
        CheckpointError: if it holds no run.
        DataError: if it is damaged.
    """
    from xclimb.runs.folder import WRITER, is_training, read_history, read_record
    from xclimb.runs.schema import line_schema, read_lines

    record = read_record(folder)
    lines: dict[str, list[dict[str, Any]]] = {"steps": [], "events": []}
    for name in lines:
        if (folder / f"{name}.jsonl").exists():
            read, _ = read_lines(folder / f"{name}.jsonl", line_schema(f"{name}.jsonl"), WRITER)
            lines[name] = [line.model_dump(exclude_unset=True) for line in read]
    written = (folder / "metrics.jsonl").stat().st_mtime
    state, error = str(record.state), record.error
    if state == "running" and is_training(folder) is False:
        state, error = "killed", f"no process is training here any more: go on with xclimb transfer --resume {folder}"
    return {
        "folder": folder,
        "record": record,
        "state": state,
        "error": error,
        "history": read_history(folder),
        "written": written,
        "running": state == "running",
        **lines,
    }


def summary(state: dict[str, Any]) -> "Group":
    """State, last epochs and steps, and events, as text."""
    from rich.console import Group
    from rich.text import Text

    from xclimb.cli.tables import make_table
    from xclimb.training.guard import sentence

    record, history = state["record"], state["history"]
    epochs = record.settings.get("epochs", 0)
    done = history[-1]["epoch"] if history else 0
    clock = datetime.fromtimestamp(state["written"]).strftime("%H:%M:%S")
    text = [f"{state['folder']} · {record.method} · {state['state']} · epoch {done} of {epochs} · written {clock}"]
    seconds = [line["seconds"] for line in history[1:]]
    if state["running"] and seconds:
        text.append(f"about {(epochs - done) * sum(seconds) / len(seconds) / 60:.1f} minutes left")
    if state["steps"]:
        step = state["steps"][-1]
        text.append(
            f"step {step['step']:,} · loss {step['loss']:.4g} · gradient {step['norm']:.3g} · rate {step['lr']:.2e} · "
            f"{step['atoms_per_second']:,} atoms/s"
        )
    text += [f"note: {sentence(event)}" for event in state["events"][-5:]]
    if state["error"]:
        text.append(f"error: {state['error']}")
    table = make_table(
        "epoch", "step", "train loss", "val loss", "energy\nmeV/atom", "forces\nmeV/Å", "stress\nGPa", "magmom\nµB"
    )
    for line in history[-_SHOWN:]:
        best = " best" if line["epoch"] == record.best_epoch else ""
        train = number(line["train"]["loss"], 5) if line["train"] else "-"
        errors = (number(line["val"][key], digits) for key, digits in _COLUMNS)
        table.add_row(f"{line['epoch']}{best}", str(line["step"]), train, number(line["val"]["loss"], 5), *errors)
    return Group(*(Text(line) for line in text), table)
