"""Studies: many transfers over a grid of settings, resumable, and the tables made of them.

The registry is filled by every module of this folder; importing it imports no torch: help texts and reports read it.
"""

from importlib import import_module
from pkgutil import iter_modules

from xclimb.study.base import STUDIES, Study, StudyContent, get_study, register

__all__ = ["STUDIES", "Study", "StudyContent", "get_study", "register", "verdict_of"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def verdict_of(content: StudyContent) -> list[str]:
    """Say in a few sentences what came out of a study, and which trials failed."""
    study = STUDIES.get(content.record.kind)  # None: written by one that is not installed here
    failed = [f"The trial {name} failed and is not in the table: {why}." for name, why in content.results.failed.items()]
    return [*(study.verdict(content) if study else []), *failed]
