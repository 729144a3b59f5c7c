import re
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from xclimb.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def flat(self) -> str:
        """Standard output without line breaks and runs of spaces."""
        return re.sub(r"\s+", " ", self.out)


@pytest.fixture
def xclimb_cli(tmp_path, monkeypatch):
    """Runs a command in ``tmp_path``; asserts that it ends with the status that is expected."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: object, status: int = 0) -> Answer:
        result = CliRunner().invoke(app, [str(word) for word in words], prog_name="xclimb")
        answer = Answer(result.exit_code, result.stdout, result.stderr)
        assert answer.status == status, f"{words} ended with {answer.status}\n{answer.out}\n{answer.err}"
        return answer

    return run
