"""Base of typed settings: YAML and dotted overrides in, one frozen object out; it dumps itself.

A setting that is unknown, of the wrong kind, or without effect is a :class:`~xclimb.errors.ConfigError`: nothing that a
user wrote is ever ignored.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from xclimb.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: frozen, strict about types, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def build(cls, values: Mapping[Any, Any] | None = None, where: str = "") -> Self:
        """Settings out of a mapping; keys may be nested mappings or dotted (``"loss.energy"``).

        Args:
            values: what differs from the defaults.
            where: what the values come from (a file name), for messages.

        Raises:
            ConfigError: on an unknown key (naming the nearest one), a wrong type, or a setting without effect.
        """
        nested = nest(values or {}, where)
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            raise ConfigError(_sentence(cls, error.errors()[0], where)) from None

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Settings out of a YAML file (:meth:`read`), then overrides such as ``"loss.energy=2"``; checked by :meth:`build`."""
        return cls.build(merge(cls.read(path), parse_overrides(overrides)), where=str(path))

    @classmethod
    def read(cls, path: str | Path) -> dict[str, Any]:
        """Settings as they stand in a YAML file, nested; a ConfigError if it is missing or no mapping."""
        path = Path(path)
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        except OSError:
            raise ConfigError(f"cannot read the settings file {path}: check the name") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes that are no text, dates that are none
            raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
        if values is not None and not isinstance(values, dict):
            raise ConfigError(f"{path} must hold a mapping of settings (name: value), not a {type(values).__name__}")
        return nest(values or {}, str(path))

    def to_yaml(self) -> str:
        """Every setting with its value, as YAML that :meth:`load` reads back to an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def describe(cls, prefix: str = "") -> list[tuple[str, Any, str]]:
        """All settings as rows (dotted name, default, reason), for help texts and the documentation."""
        rows = []
        for name, info in cls.model_fields.items():
            if isinstance(info.default, Settings):
                rows += info.default.describe(f"{prefix}{name}.")
            else:
                rows.append((prefix + name, info.default, info.description or ""))
        return rows


# -- reading ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number (YAML 1.1 wants a dot in it) and refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"the key {twice[0]!r} is given twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$")
_Loader.yaml_implicit_resolvers = {  # after the parent's, so that whole numbers stay integers
    first: [*resolvers, ("tag:yaml.org,2002:float", _FLOAT)] if first in "-+0123456789." and first else resolvers
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """``["loss.energy=2", "epochs=5"]`` -> ``{"loss": {"energy": 2}, "epochs": 5}``; values are read as YAML.

    Raises:
        ConfigError: on an entry without ``=`` or with a value that is no YAML.
    """
    values: dict[str, Any] = {}
    for entry in overrides:
        name, equals, text = entry.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"cannot read the override {entry!r}: write name=value, for example loss.energy=2")
        try:
            value = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(f"cannot read the value of the override {entry!r}: quote it, or write it as YAML") from None
        values = merge(values, nest({name.strip(): value}))
    return values


def nest(values: Mapping[Any, Any], where: str = "") -> dict[str, Any]:
    """Dotted keys to nested mappings.

    Raises:
        ConfigError: on a key that is no text.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise ConfigError(f"setting names are text, got {name!r}{_in(where)}")
        value = nest(value, where) if isinstance(value, Mapping) else value
        for part in reversed(name.split(".")[1:]):
            value = {part: value}
        nested = merge(nested, {name.split(".")[0]: value})
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings, the second winning; under a mapping, a text is the name of what has these settings."""
    merged = dict(base)
    for name, value in over.items():
        former: Any = {"name": merged[name]} if isinstance(merged.get(name), str) else merged.get(name)
        both = isinstance(value, Mapping) and isinstance(former, Mapping)
        merged[name] = merge(former, value) if both else value
    return merged


# -- messages --------------------------------------------------------------------------------------


# what other programs call a setting
_ALIASES = {
    "lr": "learning_rate", "max_lr": "learning_rate", "initial_lr": "learning_rate", "min_lr": "final_lr_fraction",
    "batch": "batch_size", "bs": "batch_size", "wd": "weight_decay", "decay": "weight_decay", "l2": "weight_decay",
    "epoch": "epochs", "n_epochs": "epochs", "num_epochs": "epochs", "max_epochs": "epochs", "max_num_epochs": "epochs",
    "optim": "optimizer", "opt": "optimizer", "optimiser": "optimizer", "scheduler": "schedule", "lr_scheduler": "schedule",
    "warmup": "warmup_epochs", "patience": "early_stopping", "ema": "ema_decay", "clip": "gradient_clip",
    "grad_clip": "gradient_clip", "clip_grad": "gradient_clip", "max_grad_norm": "gradient_clip", "model": "source",
    "default_dtype": "dtype", "gpus": "devices", "num_gpus": "devices", "gradient_accumulation": "accumulate",
    "energy_weight": "loss.energy", "force_weight": "loss.force", "forces_weight": "loss.force", "forces": "loss.force",
    "stress_weight": "loss.stress", "magmom_weight": "loss.magmom", "magmoms": "loss.magmom", "criterion": "loss.kind",
    "huber": "loss.huber_delta", "delta": "loss.huber_delta", "val_fraction": "validation.fraction",
    "valid_fraction": "validation.fraction", "train_ratio": "validation.fraction", "val_ratio": "validation.fraction",
}  # fmt: skip


def near_miss(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``"did you mean 'refit'?"``, or the list of all if none is near."""
    known = list(known)
    if (alias := _ALIASES.get(name.lower().replace("-", "_"))) in known:
        return f"did you mean {alias!r}?"
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _in(where: str) -> str:
    return f" in {where}" if where else ""


def _sentence(cls: type[Settings], error: Any, where: str) -> str:
    """One sentence out of the first of pydantic's findings."""
    path = [str(part) for part in error["loc"]]
    name = ".".join(path)
    if error["type"] == "extra_forbidden":
        known = [row[0] for row in cls.describe()]
        # a name that is right but on the wrong level ("energy" for "loss.energy") is the nearest of all
        same = [other for other in known if other.split(".")[-1] == path[-1]]
        hint = f"did you mean {same[0]!r}?" if same else near_miss(name, known)
        return f"unknown setting {name!r}{_in(where)}: {hint}"
    message = "must be cpu, cuda, cuda:<n> or mps" if path == ["device"] else error["msg"].replace("Input should be", "must be")
    return f"setting {name!r}{_in(where)} {message}, got {error['input']!r}"
