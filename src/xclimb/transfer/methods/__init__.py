"""Methods of transfer: the registry, filled by every module of this folder.

Importing it imports no torch: help texts, reports and settings read it.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from xclimb.config import MethodSettings, TransferConfig
from xclimb.errors import ConfigError
from xclimb.settings import near_miss
from xclimb.transfer.methods.base import METHODS, Method, OtherFrames, register, registered

__all__ = [
    "METHODS",
    "Method",
    "OtherFrames",
    "get_method",
    "recipe_of",
    "register",
    "registered",
    "settings_of",
    "settings_rows",
]

DEFAULT: str = TransferConfig.model_fields["method"].default

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
# those of the paper by their numbers, the default, then by name
_sorted = sorted(METHODS.values(), key=lambda method: (method.paper or len(METHODS), method.name != DEFAULT, method.name))
METHODS |= {method.name: METHODS.pop(method.name) for method in _sorted}


def get_method(name: str) -> Method:
    """Look up a method by name.

    Raises:
        ConfigError: on an unknown name, with the nearest and the list.
    """
    if name not in METHODS:
        listed = ", ".join(METHODS)
        hint = near_miss(name, METHODS)
        known = "" if listed in hint else f" (known: {listed})"
        raise ConfigError(f"unknown method {name!r}: {hint}{known}")
    return METHODS[name]


def settings_of(values: str | Mapping[str, Any] | MethodSettings) -> MethodSettings:
    """Validate a name, or settings with the name under ``"name"``, as settings of that method.

    Raises:
        ConfigError: on an unknown method or setting, a setting of another method, or a wrong value.
    """
    if isinstance(values, MethodSettings):
        return values
    given = {"name": values} if isinstance(values, str) else {"name": DEFAULT} | dict(values)
    if not isinstance(given["name"], str):
        raise ConfigError(f"the name of a method is text, got {given['name']!r}: known are {', '.join(METHODS)}")
    method = get_method(given["name"])
    for setting in given.keys() - method.settings.model_fields.keys():
        owners = ", ".join(repr(other.name) for other in METHODS.values() if setting in other.settings.model_fields)
        if owners:
            effect = f"method.{setting} has no effect with method {method.name!r}"
            raise ConfigError(f"{effect}, it is a setting of {owners}: leave it out")
    return method.settings.build(given, f"method {method.name!r}")


def recipe_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings that the method of a transfer brings as defaults; none for what is no method.

    Args:
        values: settings of the transfer that are given, ``method`` as :func:`settings_of` takes it.
    """
    chosen = values.get("method", DEFAULT)
    name = chosen.get("name", DEFAULT) if isinstance(chosen, Mapping) else getattr(chosen, "name", chosen)
    recipe = dict(METHODS[name].recipe) if isinstance(name, str) and name in METHODS else {}
    if values.get("optimizer") == "schedulefree":  # which averages its own iterates
        recipe.pop("ema_decay", None)
    return recipe


def settings_rows() -> list[tuple[str, str, Any, str]]:
    """List the settings of all methods and their recipes as rows (method, dotted name, default, description)."""
    rows = []
    for method in METHODS.values():
        described = method.settings.describe("method.")
        rows += [(method.name, row, default, about) for row, default, about in described if row != "method.name"]
        rows += [(method.name, row, value, "default with this method") for row, value in _dotted(method.recipe)]
    return rows


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs of dotted name and value."""
    pairs = []
    for name, value in values.items():
        pairs += _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
