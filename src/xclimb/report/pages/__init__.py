"""Pages of the report: the registry of their sections, filled by every module of this folder."""

from importlib import import_module
from pkgutil import iter_modules

from xclimb.report.pages.base import PAGES, SECTIONS, Page, Section, assemble, figures, register, sections

__all__ = ["PAGES", "SECTIONS", "Page", "Section", "assemble", "figures", "register", "sections"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
