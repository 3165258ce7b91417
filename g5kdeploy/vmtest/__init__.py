"""The NixOS test driver's names and meanings over SSH: one test script, on local machines and on deployed nodes."""

from g5kdeploy.vmtest.local import run_local
from g5kdeploy.vmtest.on_nodes import run_on_nodes
from g5kdeploy.vmtest.supervise import GRACE_SECONDS
from g5kdeploy.vmtest.verdict import Kind, Part, ScriptFailed, Verdict

__all__ = ["GRACE_SECONDS", "Kind", "Part", "ScriptFailed", "Verdict", "run_local", "run_on_nodes"]
