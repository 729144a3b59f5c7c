"""How the program behaves around its commands: help, version, errors, notes, interrupts, start-up time."""

import os
import subprocess
import sys
import time
import warnings

import pytest
import typer
from typer.testing import CliRunner

import xclimb
from xclimb.cli import app
from xclimb.cli.shell import Shell, as_options, debugging
from xclimb.errors import DataError, XclimbWarning

COMMANDS = (
    "demo",
    "ingest",
    "inspect",
    "shift",
    "stability",
    "references",
    "transfer",
    "evaluate",
    "predict",
    "models",
    "report",
    "study",
)
SUBCOMMANDS = ("references fit", "references show", "references compare", "study methods", "study scaling", "study trial")
PROGRAM = [sys.executable, "-m", "xclimb"]
PLAIN = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}


def toy(action):
    """A program of one command that does ``action``."""
    program = typer.Typer(cls=Shell, pretty_exceptions_enable=False)
    program.callback()(lambda: None)
    program.command("go")(action)
    return CliRunner().invoke(program, ["go"])


def raising(error: BaseException):
    def action() -> None:
        raise error

    return action


def test_help_names_every_command(xclimb_cli):
    answer = xclimb_cli("--help")
    for name in COMMANDS:
        assert f" {name} " in answer.out
    assert xclimb_cli().flat == answer.flat  # no words: the help as well


@pytest.mark.parametrize("command", [*COMMANDS, *SUBCOMMANDS])
def test_every_command_has_help_with_an_example(xclimb_cli, command):
    answer = xclimb_cli(*command.split(), "--help")
    if command not in ("references", "study"):
        assert "Example" in answer.out
        assert f"xclimb {command}" in answer.flat
    assert "[bold]" not in answer.out


def test_version(xclimb_cli):
    assert xclimb_cli("--version").out.strip() == f"xclimb {xclimb.__version__}"


def test_help_imports_nothing_heavy_and_is_quick():
    heavy = ("torch", "ase", "pymatgen", "pyarrow", "numpy", "pydantic", "plotly", "chgnet")
    look = f"import sys; import xclimb.cli; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([*PROGRAM, "--help"], capture_output=True, check=True, env=PLAIN)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5 * (1 + max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 1))  # a busy machine is slower


def test_the_program_ends_with_status_2_and_one_line(tmp_path):
    done = subprocess.run(
        [*PROGRAM, "inspect", "nothing.extxyz"], capture_output=True, text=True, env=PLAIN, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: nothing.extxyz")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    words = [*PROGRAM, "--debug", "inspect", "nothing.extxyz"]
    done = subprocess.run(words, capture_output=True, text=True, env=PLAIN, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    command = f"{sys.executable} -m xclimb --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=PLAIN, check=False)
    assert "Traceback" not in done.stderr


def test_errors_on_purpose_are_one_line(monkeypatch):
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)
    result = toy(raising(DataError("x.extxyz: bad,\n  give functional='PBE' or overwrite=True")))
    assert result.exit_code == 2
    assert result.stderr == "error: x.extxyz: bad, give --functional PBE or --overwrite\n"


def test_a_bug_asks_for_a_report(monkeypatch):
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)
    result = toy(raising(ZeroDivisionError("oh")))
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError: oh" in result.stderr
    assert "XCLIMB_DEBUG=1" in result.stderr
    assert "Traceback" not in result.output


def test_debugging_lets_errors_through(monkeypatch):
    monkeypatch.setenv("XCLIMB_DEBUG", "1")
    assert debugging()
    assert isinstance(toy(raising(DataError("x"))).exception, DataError)


def test_an_interrupt_says_so():
    result = toy(raising(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_no_space_on_the_disk_is_no_bug(monkeypatch):
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)
    result = toy(raising(OSError(28, "No space left on device", "big.json")))
    assert result.exit_code == 2
    assert result.stderr == "error: big.json: No space left on device\n"


def test_warnings_become_notes_once_and_those_of_others_are_hidden(monkeypatch):
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)

    def action() -> None:
        for _ in range(2):
            warnings.warn("the cell is\nsmall", XclimbWarning, stacklevel=1)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)

    before = list(warnings.filters)
    result = toy(action)
    assert result.exit_code == 0
    assert result.stderr == "note: the cell is small\n"
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("say functional='PBE'", "say --functional PBE"),
        ("with functional=...", "with --functional NAME"),
        ("or overwrite=True (--overwrite) to", "or --overwrite to"),
        ("energy_key='REF_energy'", "--energy-key REF_energy"),
        ("virial_key='W'", "--virial-key W"),
        ("more data, or cover=False to", "more data, or --no-cover to"),
        ("use xclimb ingest (in Python also: strict=False)", "use xclimb ingest"),
        ("out=1 and loss.energy=2 stay", "out=1 and loss.energy=2 stay"),
    ],
)
def test_arguments_in_messages_are_written_as_options(said, written):
    assert as_options(said) == written


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trasnfer"], "transfer"),
        (["transfer", "data", "--epcohs", "3"], "--epochs"),
        (["transfer", "data", "--epochs", "many"], "epochs"),
        (["references"], "references --help"),
        (["study"], "study --help"),
        (["predict"], "predict --help"),
    ],
)
def test_usage_errors_are_one_line(xclimb_cli, words, told):
    answer = xclimb_cli(*words, status=2)
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert told in answer.err


def test_python_dash_m_is_the_program():
    assert app.info.name == "xclimb"
