"""Behaviour of the command line: one-line errors, notes instead of warnings, exit statuses, consoles.

Exit status: 0 done; 1 a bug in xclimb; 2 something in the input, said in one line; 130 interrupted; 141 whoever read
the output went away.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from xclimb.errors import XclimbError, XclimbWarning

if TYPE_CHECKING:
    from rich.console import Console

BUG, BAD_INPUT, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141
# arguments of the Python API in messages -> options: functional='PBE' -> --functional PBE
_ARGUMENT = re.compile(
    r"\b(functional|energy_key|forces_key|stress_key|virial_key|magmom_key|only|overwrite|val|potential|kind|by|group|out|device|dtype|workers|energy_unit|force_unit|stress_unit|mix)=(True|'[^']*'|\.\.\.)"
)
_CHECK = re.compile(r"\bchecks=\{'([\w-]+)': '(\w+)'\}")
_PYTHON_ONLY = re.compile(r" \(in Python[^)]*\)")  # ways out that the command line has not
_PIPE_WIDTH = 140  # columns where there is no terminal: tables in files and pipes must not be cut at 80


class _InterruptedError(Exception):
    """Ctrl-C, as an ordinary exception: typer's versions differ in what they make of KeyboardInterrupt."""


class Shell(TyperGroup):
    """The group of all commands; every way out of the program goes through :meth:`main`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without any words, show the help."""
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse, run, and turn whatever happened into text for a person and an exit status."""
        _tolerant_streams()
        try:
            with quiet_warnings():
                result = super().main(*args, **extra | {"standalone_mode": False})
            _flush()
        except BrokenPipeError:  # whoever read has enough, as of "| head"
            result = _leave_quietly()
        except SystemExit as end:
            if not isinstance(end.__context__, BrokenPipeError):  # as rich ends a program
                raise
            result = _leave_quietly()
        except Exception as problem:
            result = _explain(problem)
        if extra.get("standalone_mode", True):
            sys.exit(result if isinstance(result, int) else 0)
        return result


def _tolerant_streams() -> None:
    """Let no character fail that a terminal cannot show, and no output that was closed (``>&-``)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _leave_quietly() -> int:
    """Give the outputs another end, so that nothing is said when they are closed; the status of a closed pipe."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    return CLOSED_PIPE


def _explain(problem: Exception) -> int:
    """Print what went wrong; the exit status."""
    if isinstance(problem, _InterruptedError):
        error_console().print("interrupted")
        return INTERRUPTED
    if debugging():
        raise problem
    if isinstance(problem, XclimbError):
        complain(str(problem))
        return BAD_INPUT
    if hasattr(problem, "format_message") and hasattr(problem, "exit_code"):  # a usage error, typer's or click's
        context = getattr(problem, "ctx", None)
        way_out = f" (see: {context.command_path} --help)" if context is not None else ""
        complain(problem.format_message().rstrip(".") + way_out)
        return BAD_INPUT
    if isinstance(problem, OSError) and problem.strerror:  # disk full, no permission, ...
        complain(f"{problem.filename or os.getcwd()}: {problem.strerror}")
        return BAD_INPUT
    complain(f"unexpected {type(problem).__name__}: {problem}")
    error_console().print(
        "This is a bug in xclimb, please report it. The same command with XCLIMB_DEBUG=1 set (or: xclimb --debug COMMAND) "
        "shows where it happened.",
        soft_wrap=True,
    )
    return BUG


def debugging() -> bool:
    """Whether tracebacks and all warnings are wanted."""
    return os.environ.get("XCLIMB_DEBUG", "0") not in ("", "0")


def complain(sentence: str) -> None:
    """One line ``error: ...`` on stderr, red on a terminal."""
    _say("error:", "bold red", sentence)


def note(sentence: str) -> None:
    """One line ``note: ...`` on stderr, for what a user should know that stops nothing."""
    _say("note:", "yellow", sentence)


def _say(word: str, style: str, sentence: str) -> None:
    from rich.text import Text

    line = Text.assemble((word, style), " ", as_options(" ".join(sentence.split())))
    error_console().print(line, soft_wrap=True)


def as_options(sentence: str) -> str:
    """A message of the Python API with its arguments written as options of the command line."""

    def option(match: re.Match[str]) -> str:
        value = "" if match[2] == "True" else " " + match[2].strip("'").replace("...", "NAME")
        return f"--{match[1].replace('_', '-')}{value}"

    sentence = _PYTHON_ONLY.sub("", sentence).replace(" (--overwrite)", "").replace("cover=False", "--no-cover")
    return _ARGUMENT.sub(option, _CHECK.sub(r"--check \1=\2", sentence))


def console() -> "Console":
    """Console of results: stdout."""
    return _console(stderr=False)


def error_console() -> "Console":
    """Console of errors, notes and progress: stderr."""
    return _console(stderr=True)


def _console(stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False)


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Warnings of xclimb become notes, each said once; those of other packages are hidden (but when debugging)."""
    with warnings.catch_warnings():
        if debugging():
            warnings.simplefilter("default")
            yield
            return
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", XclimbWarning)
        said: set[str] = set()

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            if str(message) not in said:
                said.add(str(message))
                note(str(message))

        warnings.showwarning = show
        yield
