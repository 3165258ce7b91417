"""The experiment file: schema, loading, every error at once with file and line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g5kdeploy.experiment.loading import Given, load
    from g5kdeploy.experiment.model import Benchmark, Cache, Check, Experiment, Exporter, Kernel, Role
    from g5kdeploy.experiment.source import Mistake, Mistakes

_WHERE = {
    "loading": ("Given", "load"),
    "model": ("Benchmark", "Cache", "Check", "Experiment", "Exporter", "Kernel", "Role"),
    "source": ("Mistake", "Mistakes"),
}

__all__ = [
    "Benchmark",
    "Cache",
    "Check",
    "Experiment",
    "Exporter",
    "Given",
    "Kernel",
    "Mistake",
    "Mistakes",
    "Role",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: pydantic is slow to load."""
    import importlib

    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(name)
