"""Hosted workflow and pre-commit hooks: valid YAML, and every command they call exists."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW, HOOKS = ROOT / ".github" / "workflows" / "ci.yml", ROOT / ".pre-commit-config.yaml"

pytestmark = pytest.mark.skipif(not HOOKS.is_file(), reason="run outside a checkout")


def recipe(target):
    """Commands of a target of the Makefile."""
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert body is not None, f"the Makefile has no target {target}"
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in body[1].splitlines()]


def test_hooks_call_the_commands_of_make_lint():
    [local] = yaml.safe_load(HOOKS.read_text())["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == recipe("lint")


def test_the_workflow_calls_what_the_local_check_calls():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    matrix = jobs["check"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-latest", "macos-latest"], "python": ["3.11", "3.12", "3.13"]}
    commands = [step["run"] for step in jobs["check"]["steps"] if "run" in step]
    assert commands == ["make lint", "make test"]
    assert all(command in (ROOT / ".ci" / "run").read_text() and recipe(command.split()[1]) for command in commands)


def test_the_lowest_versions_are_tested_with_the_same_tests():
    commands = [step["run"] for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["lowest"]["steps"] if "run" in step]
    assert any("--resolution lowest-direct" in command for command in commands)
    assert commands[-1].replace("python -m pytest", "python -m pytest $(PYTEST_ARGS)") in recipe("test")
