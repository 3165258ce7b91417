"""Where settings come from, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g5kdeploy.cli.main import main
from g5kdeploy.events.failure import ExitCode


def test_settings_and_their_origins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from g5kdeploy.cli import settings

    (tmp_path / "roles.nix").write_text("{ }")
    file = tmp_path / "experiment.yaml"
    file.write_text("apiVersion: g5kdeploy/v1\nname: a\nroles: {x: {nodes: 1}}\nqueue: production\nsite: rennes\n")
    settings.config_file().parent.mkdir(parents=True)
    settings.config_file().write_text("queue: testing\nwalltime: 2h\nsite: nancy\nproject: mine\n")
    monkeypatch.setenv("G5KDEPLOY_SITE", "lyon")
    assert main(["config", "show", str(file), "--origin", "-o", "json"]) == 0
    found = {item["name"]: (item["value"], item["origin"]) for item in json.loads(capsys.readouterr().out)["items"]}
    assert found["output"] == ("json", "--output")
    assert found["site"] == ("lyon", "G5KDEPLOY_SITE")
    assert found["queue"] == ("production", f"{file}:4")
    assert found["walltime"] == ("2h", f"{settings.config_file()}:2")
    assert found["environment"] == ("debian12-min", "default")
    experiment = settings.experiment_of(file, walltime="3h")
    assert (experiment.site, experiment.queue, experiment.project) == ("lyon", "production", "mine")
    assert experiment.walltime == 3 * 3600


def test_a_wrong_configuration_file(capsys: pytest.CaptureFixture[str]) -> None:
    from g5kdeploy.cli import settings

    settings.config_file().parent.mkdir(parents=True)
    settings.config_file().write_text("queu: testing\nsite: [a]\n")
    assert main(["config", "show"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "config.yaml:1: unknown key `queu` (did you mean `queue`?)" in err
    assert "config.yaml:2: `site` must be one value" in err


def test_a_wrong_value_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("G5KDEPLOY_OUTPUT", "xml")
    assert main(["config", "show"]) == ExitCode.USAGE
    assert "G5KDEPLOY_OUTPUT" in capsys.readouterr().err


def test_the_defaults_are_the_experiment_files() -> None:
    from g5kdeploy.cli.settings import SETTINGS
    from g5kdeploy.experiment import Experiment

    for setting in SETTINGS:
        if setting.key:
            assert Experiment.model_fields[setting.key].default == setting.default, setting.name
