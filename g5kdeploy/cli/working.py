"""The run that a command works on: found or begun, locked for it alone, its progress shown meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from g5kdeploy.cli import settings
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.experiment import Experiment
    from g5kdeploy.workflow.session import Session


@contextlib.contextmanager
def on_run(
    screen: Screen,
    experiment: Experiment,
    progress: str,
    run_id: str | None,
    runs: Path | None,
    *,
    new: bool = False,
    phases: Sequence[str] = (),
    beside: bool = False,
) -> Iterator[Session]:
    """A session on the run that --run names, or the newest that is not over; `new` and `phases` as for `chain.open_run`.

    `beside`: another command may be at work on it meanwhile.
    """
    from g5kdeploy.workflow import chain

    folder = settings.runs(runs)
    with (
        screen.renderer(progress) as view,
        chain.open_run(experiment, screen.emitter(view), run_id, folder, new=new, phases=phases) as session,
        contextlib.nullcontext() if beside else session.run.lock(),
    ):
        yield session
