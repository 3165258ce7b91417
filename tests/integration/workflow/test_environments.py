"""Runs whose environment is a file of the user's, and runs in jobs without a deployment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.workflow.place import Place
from tests.integration.workflow.test_bad_luck import nothing_left, told

WEB = "http://public.lab.grid5000.fr/~"
CURL = f"""#!/bin/sh
for url; do :; done
rest=${{url#{WEB}}}
exec cat "$HOME/public/${{rest#*/}}"
"""


@pytest.fixture
def own(place: Place) -> Path:
    """An environment's description beside the experiment, and a site that knows where its public folder is."""
    folder = place.experiment.parent / "env"
    folder.mkdir()
    (folder / "image.tgz").write_bytes(b"an archive")
    described = {"name": "own", "image": {"file": "image.tgz"}, "boot": {"kernel": "/vmlinuz"}}
    (folder / "own.yaml").write_text(yaml.safe_dump(described))
    curl = place.folder / "frontend" / "bin" / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)

    def fetch(url: str) -> bytes:
        return (place.public / url.removeprefix(WEB).partition("/")[2]).read_bytes()

    place.lab.services.deployments.fetch = fetch
    place.write(environment="env/own.yaml")
    return folder


def uploads(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "upload environment" in line]


def test_a_file_is_uploaded_and_deployed_by_its_url(place: Place, own: Path) -> None:
    done = place.run("--until", "deploy", "--keep")
    told(done, 0)
    (deployment,) = place.lab.deployer.started
    assert deployment.environment.startswith(f"{WEB}") and deployment.environment.endswith("-own.yaml")
    image = deployment.description["image"]["file"].rpartition("/")[2]
    assert (place.public / "g5kdeploy" / "environments" / image).read_bytes() == b"an archive"
    (own / "image.tgz").write_bytes(b"another archive")
    told(place.call(*place.command("deploy")), 2, "was not pushed as it is now", "g5kdeploy push")
    told(place.call(*place.command("push")), 0)
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_an_environment_that_the_site_cannot_fetch_is_not_asked_for(place: Place, own: Path) -> None:
    place.write(environment=f"{WEB}jdoe/none.yaml")
    told(place.run(), 1, "the site cannot fetch the environment", "none.yaml")
    assert place.lab.deployer.started == []
    nothing_left(place)


def test_an_environment_that_is_not_there_is_a_mistake_in_the_file(place: Place, own: Path) -> None:
    place.write(environment="env/other.yaml")
    done: Any = place.run()
    told(done, 2, "experiment.yaml:", "the environment's description `env/other.yaml` does not exist")
    assert place.submissions() == 0
