"""Assembly of a page: templates, the drawing library packed into the page, files written whole or not at all."""

import base64
import gzip
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import BaseLoader, Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from xclimb.files import check_writable, write_file
from xclimb.report import style


def replace_file(file: Path, content: str | bytes) -> None:
    """Write a file of a page whole or not at all; what is there and is no regular file is refused."""
    check_writable(file, overwrite=True)
    write_file(file, content)


def _template_source(name: str) -> str:
    return (files("xclimb.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    loader: BaseLoader = FunctionLoader(_template_source)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"missing": "—"}
    environment.globals |= {"parts": environment.get_template("parts.html.j2").module}
    return environment


def parts() -> Any:
    """The macros that templates share."""
    return _environment().globals["parts"]


def render(**context) -> str:
    """A page, complete in itself."""
    raw = {"css": Markup(_template_source("page.css")), "script": Markup(_template_source("page.js"))}
    dark = json_for_html(style.DARK)
    return _environment().get_template("page.html.j2").render(**raw, **context, plotly=_packed_plotly(), dark=dark)


def render_block(template: str, block: str, values: dict) -> Markup:
    """One block of a template alone."""
    source = _environment().get_template(template)
    return Markup("".join(source.blocks[block](source.new_context(values))))


@cache
def _packed_plotly() -> str:
    """plotly.js, gzip-compressed, as base64: 2 MB instead of 5; the browser unpacks it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), 9, mtime=0)).decode("ascii")


def json_for_html(content) -> Markup:
    """JSON that may stand inside a script element whatever the strings in it say."""
    text = content if isinstance(content, str) else json.dumps(content)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def sentence(text: str) -> str:
    """Turn a phrase of a table of results into a sentence: a capital first, a full stop last."""
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def script(name: str) -> Markup:
    """A script of the templates, for pages that need more than the common one."""
    return Markup(_template_source(name))


def figures_json(drawn: dict[str, go.Figure]) -> Markup:
    """Figures by name, as the page's script reads them."""
    inside = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in drawn.items())
    return json_for_html("{" + inside + "}")
