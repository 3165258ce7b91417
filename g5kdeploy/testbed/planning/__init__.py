"""When an experiment could start, and where: from reference data, status, accesses and the usage policy."""

from g5kdeploy.testbed.planning.landscape import Landscape, look
from g5kdeploy.testbed.planning.moments import WORDS, Window, window
from g5kdeploy.testbed.planning.options import Option, Plan, plan
from g5kdeploy.testbed.planning.policy import Verdict
from g5kdeploy.testbed.planning.together import plan_sites
from g5kdeploy.testbed.planning.wish import PLATFORM, Wish

__all__ = [
    "PLATFORM",
    "WORDS",
    "Landscape",
    "Option",
    "Plan",
    "Verdict",
    "Window",
    "Wish",
    "look",
    "plan",
    "plan_sites",
    "window",
]
