"""Loggers of a training besides metrics.jsonl: CSV, TensorBoard, Weights & Biases (offline)."""

import csv
import io
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.files import write_file


@runtime_checkable
class Log(Protocol):
    """Logger of the lines of metrics.jsonl and of steps.jsonl."""

    def epoch(self, line: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Log the line of an epoch."""

    def step(self, line: dict[str, Any]) -> None:
        """Log the line of a step."""

    def close(self) -> None:
        """Close the logger."""


_PACKAGES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


def check_logs(config: TransferConfig) -> None:
    """Refuse, before anything is begun, logs that cannot be written.

    Raises:
        ConfigError: if a package is not installed.
    """
    for name in config.loggers:
        try:
            import_module(_PACKAGES.get(name, "csv"))
        except ImportError:
            raise ConfigError(f"logger {name!r} needs a package: pip install 'xclimb[{name}]'") from None


def open_logs(config: TransferConfig, folder: Path, first_step: int) -> list[Log]:
    """The logs that the settings ask for, going on after ``first_step``."""
    made: list[Log] = []
    for name in config.loggers:
        if name == "csv":
            made.append(CsvLog(folder / "metrics.csv"))
        elif name == "tensorboard":
            made.append(TensorBoardLog(folder / "tensorboard", first_step))
        else:
            made.append(WandbLog(config, folder))
    return made


def flat(line: dict[str, Any], prefix: str = "") -> dict[str, float | int]:
    """Nested numbers by one name each, ``val/energy_mae``; what is not there is left out."""
    numbers: dict[str, float | int] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            numbers |= flat(value, f"{prefix}{name}/")
        elif value is not None:
            numbers[prefix + name] = value
    return numbers


class CsvLog:
    """``metrics.csv``: one row an epoch."""

    def __init__(self, file: Path):
        self._file = file

    def epoch(self, line: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Write the table with its new row."""
        rows = [flat(each) for each in history]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(self._file, text.getvalue())

    def step(self, line: dict[str, Any]) -> None:
        """Ignore steps: one row is one epoch."""

    def close(self) -> None:
        """Do nothing: no file is kept open."""


class TensorBoardLog:
    """Event files for TensorBoard; a resumed run hides what came after the state it goes on from."""

    def __init__(self, folder: Path, first_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def epoch(self, line: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Add the numbers of an epoch."""
        for name, value in flat(line).items():
            self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def step(self, line: dict[str, Any]) -> None:
        """Add loss, rate and norm."""
        for name in ("loss", "lr", "norm"):
            self._writer.add_scalar(f"step/{name}", line[name], line["step"])

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WandbLog:
    """A run of Weights & Biases, offline: ``wandb sync`` sends it, nothing else does. A resumed run makes another."""

    def __init__(self, config: TransferConfig, folder: Path):
        import wandb

        where: dict[str, Any] = {"dir": str(folder), "mode": "offline", "settings": {"silent": True}}
        self._run = wandb.init(project="xclimb", name=folder.name, config=config.model_dump(), **where)

    def epoch(self, line: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Add the numbers of an epoch."""
        self._run.log(flat(line), step=line["step"])

    def step(self, line: dict[str, Any]) -> None:
        """Add loss, rate and norm."""
        self._run.log({f"step/{name}": line[name] for name in ("loss", "lr", "norm")}, step=line["step"])

    def close(self) -> None:
        """End the run."""
        self._run.finish()
