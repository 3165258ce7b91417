"""What the documentation shows is true: its commands parse, its experiment files load, its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from g5kdeploy.cli import table
from g5kdeploy.cli.main import main, root
from g5kdeploy.cli.settings import SETTINGS
from g5kdeploy.experiment import Experiment, load
from g5kdeploy.runs import PhaseState

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STOPS = ("&&", "||", "|", ";", ">", ">>", "2>", "#", "\\")


def command_lines(text: str) -> list[list[str]]:
    """The words after `g5kdeploy` in every line of code that begins with it (or has it after `&&`, or in `$(...)`)."""
    found = []
    for line in text.splitlines():
        if not line.startswith(("    ", "$ ", "\t", "g5kdeploy ")):
            continue
        for part in line.split(" && "):
            match = re.match(r"(?:\s*|\$ |.*\$\()g5kdeploy ([^)\n]*)", part)
            if match:
                words = shlex.split(match[1], comments=True)
                end = next((index for index, word in enumerate(words) if word in STOPS), len(words))
                found.append(words[:end])
    return found


def parse(words: list[str]) -> None:
    """Parse without running; raises click's errors."""
    command: click.Command = root
    context = click.Context(root, info_name="g5kdeploy")
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        child = command.get_command(context, name)
        assert child is not None, f"no command {name}"
        command, context = child, click.Context(child, parent=context, info_name=name)
    if rest not in (["--help"], ["-h"]):
        command.make_context(command.name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_parses(page: Path) -> None:
    for words in command_lines(page.read_text()):
        if words[0].isupper():
            continue  # COMMAND --help
        try:
            parse(words)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: g5kdeploy {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("name", list(table.MODULES))
def test_every_example_of_a_help_text_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    todo = [[name]]
    while todo:
        words = todo.pop()
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        example = text.split("Example:")[1].split("Options:")[0]
        for line in command_lines(re.sub(r"\\\n\s*", " ", example)):
            try:
                parse(line)
            except click.ClickException as error:
                pytest.fail(f"{words}: g5kdeploy {shlex.join(line)}: {error.format_message()}")
        commands = text.partition("\nCommands:\n")[2]
        todo += [[*words, match[1]] for match in re.finditer(r"^  (\S+) ", commands, re.MULTILINE)]


def test_every_command_is_in_the_page_of_commands() -> None:
    shown = {words[0] for words in command_lines((ROOT / "docs" / "cli.md").read_text())}
    assert set(table.MODULES) <= shown


def test_the_experiment_files_shown_are_valid(tmp_path: Path) -> None:
    (tmp_path / "roles.nix").write_text("{ }")
    (tmp_path / "test.py").write_text("")
    count = 0
    for page in PAGES:
        for number, text in enumerate(
            re.findall(r"```yaml\n(apiVersion: g5kdeploy.*?)```", page.read_text(), re.DOTALL)
        ):
            file = tmp_path / f"{page.stem}-{number}.yaml"
            file.write_text(text)
            load(file)
            count += 1
    assert count >= 2


def test_the_experiment_file_of_the_documentation_has_every_key() -> None:
    text = (ROOT / "docs" / "experiment-file.md").read_text()
    example = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    schema = Experiment.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for key in part["properties"]:
            assert re.search(rf"\b{key}:", example), f"the example lacks {key}"
    for key in schema["properties"]:
        assert f"| `{key}` |" in text, f"the table lacks {key}"


def test_every_setting_is_in_the_page_of_commands() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for setting in SETTINGS:
        assert f"| `{setting.name}` | `{setting.variable}` |" in text


def test_the_states_of_phases_are_documented() -> None:
    text = (ROOT / "docs" / "run-folder.md").read_text()
    assert f"({', '.join(state.value for state in PhaseState)})" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
