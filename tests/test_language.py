"""Language of names, docstrings and comments: the words of the field, and docstrings that say what a thing is or does."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import xclimb

SOURCE = Path(xclimb.__file__).parent
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
EXCEPTED: tuple[str, ...] = ()  # packages still to be rewritten
QUESTIONS = re.compile(r"(what|which|where|how)\b", re.IGNORECASE)
DIALECT = re.compile(r"(?<![a-zA-Z])(told|found(?!_inf))(?![a-zA-Z])", re.IGNORECASE)  # found_inf is a name of PyTorch
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names of modules, classes and functions, and their docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), text


def words(source: str) -> Iterator[str]:
    """Identifiers (those in f-strings too), comments and docstrings; error sentences are for users, and left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        yield from (getattr(node, name) for name in ("id", "arg", "attr", "name") if isinstance(getattr(node, name, None), str))
    yield from (text for _, text in docstrings(tree))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def questions(source: str) -> list[str]:
    return [f"{name}: {text.splitlines()[0]}" for name, text in docstrings(ast.parse(source)) if QUESTIONS.match(text)]


def dialect(source: str) -> list[str]:
    return [text for text in words(source) if DIALECT.search(text)]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(EXCEPTED)])
def test_docstrings_and_names_use_the_language_of_the_field(module):
    source = (SOURCE / module).read_text(encoding="utf-8")
    assert questions(source) == []
    assert dialect(source) == []


def test_the_checks_see_docstrings_names_and_comments():
    bad = 'def f(told):\n    """What it does."""\n    return f"{told.found_at}"  # found here\n'
    assert questions(bad) == ["f: What it does."]
    assert len(dialect(bad)) == 4  # argument, name and attribute in the f-string, comment
    assert dialect('raise ValueError("no frame was found")\n') == []
