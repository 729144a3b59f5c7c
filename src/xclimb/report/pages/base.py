"""A page as a list of sections: the kinds of things that a page is made of, their registry, and the one assembly of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from xclimb.report.html import figures_json, json_for_html, parts, render, render_block, script
from xclimb.report.tables import Table, Tile

Figures = dict[str, go.Figure]


@dataclass(frozen=True)
class Page:
    """A kind of page: its head. The sections are registered for its name.

    Args:
        name: ``"run"``, ``"study"``, ``"shift"`` or ``"data"``; also that of its template.
        kind: as the reader sees it.
        title: of the content.
        verdict: the content in a few sentences.
        tiles: key figures.
        values: what the templates of all sections may use.
        footer: whether the template has a block ``footer`` instead of the common one.
    """

    name: str
    kind: str
    title: Callable[[Any], str]
    verdict: Callable[[Any], list[str]]
    tiles: Callable[[Any], list[Tile]]
    values: Callable[[Any], dict[str, Any]]
    footer: bool = False


@dataclass(frozen=True)
class Section:
    """One section of a page. Every function takes the content of the page (a RunFolder on the page ``run``, and so on).

    Args:
        page: name of the page.
        name: of the section, unique on its page.
        title: heading; a function where it depends on the content.
        nav: the entry in the navigation; by default the heading.
        needs: whether the content holds what the section shows; without it the section is left out.
        figures: figures by name, drawn once: the page, SVG and PNG are made from them.
        table: a table below the figures.
        caption: of the figures.
        reading: how to read them, a sentence or two below the heading.
        block: block of the page's template for a section of another layout than this: reading, figures, table.
        values: what that block uses.
        structures: crystals that may be turned beside a table.
        after: name of the section before it; by default it is the last.
    """

    page: str
    name: str
    title: str | Callable[[Any], str]
    nav: str | Callable[[Any], str] = ""
    needs: Callable[[Any], object] = lambda content: True
    figures: Callable[[Any], Figures] = lambda content: {}
    table: Callable[[Any], Table | None] = lambda content: None
    caption: str = ""
    reading: str = ""
    block: str = ""
    values: Callable[[Any], dict[str, Any]] = lambda content: {}
    structures: Callable[[Any], list] = lambda content: []
    after: str = ""

    def heading(self, content: Any) -> tuple[str, str]:
        """Title and entry in the navigation."""
        title, nav = (text if isinstance(text, str) else text(content) for text in (self.title, self.nav))
        return title, nav or title


PAGES: dict[str, Page] = {}
SECTIONS: dict[tuple[str, str], Section] = {}


def register(*parts: Page | Section) -> None:
    """Add pages and sections to the registry."""
    for part in parts:
        if isinstance(part, Page):
            PAGES[part.name] = part
        else:
            SECTIONS[part.page, part.name] = part


def sections(page: str) -> list[Section]:
    """Sections of a page in order: as registered, those that name their place behind that section."""
    mine = [section for section in SECTIONS.values() if section.page == page]
    ordered = [section for section in mine if not section.after]
    for section in (section for section in mine if section.after):
        names = [other.name for other in ordered]
        place = names.index(section.after) + 1 if section.after in names else len(ordered)
        ordered.insert(place, section)
    return ordered


def figures(page: str, content: Any) -> Figures:
    """All figures of a page by name."""
    return {name: fig for drawn in _drawn(_shown(page, content), content).values() for name, fig in drawn.items()}


def assemble(page: str, content: Any) -> str:
    """Render a page of a content: one self-contained HTML file."""
    head, shown = PAGES[page], _shown(page, content)
    drawn, common = _drawn(shown, content), head.values(content)
    bodies = []
    for section in shown:
        title, nav = section.heading(content)
        body = _body(section, content, common, drawn[section.name])
        bodies.append({"name": section.name, "title": title, "nav": nav, "body": body})
    structures = [crystal for section in shown for crystal in section.structures(content)]
    return render(
        title=head.title(content),
        kind=head.kind,
        verdict=head.verdict(content),
        tiles=head.tiles(content),
        sections=bodies,
        figures=figures_json({name: fig for each in drawn.values() for name, fig in each.items()}),
        footer=render_block(f"{page}.html.j2", "footer", {}) if head.footer else "",
        structures=json_for_html(structures) if structures else "",
        viewer=script("structure.js"),
    )


def _shown(page: str, content: Any) -> list[Section]:
    return [section for section in sections(page) if section.needs(content)]


def _drawn(shown: Sequence[Section], content: Any) -> dict[str, Figures]:
    return {section.name: section.figures(content) for section in shown}


def _body(section: Section, content: Any, common: Mapping[str, Any], drawn: Figures) -> Markup:
    if section.block:
        values = {**common, **section.values(content), "drawn": drawn}
        return render_block(f"{section.page}.html.j2", section.block, values)
    title, _ = section.heading(content)
    return parts().section(section.reading, title, list(drawn), section.caption, section.table(content))
