"""The JSON schema of the experiment file, for editors: generated from the model, shipped beside this module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from g5kdeploy.experiment.model import Experiment

FILE = Path(__file__).with_name("experiment.schema.json")


def schema() -> dict[str, Any]:
    """As generated now; a test compares it with the shipped file."""
    made = Experiment.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def text() -> str:
    """The shipped file's content. `python -m g5kdeploy.experiment.schema` writes it."""
    return json.dumps(schema(), indent=2, default=str) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
