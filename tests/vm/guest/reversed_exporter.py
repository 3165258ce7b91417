"""The exporter, but the programs of each object are attached last first."""

from __future__ import annotations

import sys

from g5kdeploy.exporter.libbpf import Object
from g5kdeploy.exporter.main import main

in_order = Object.programs
Object.programs = lambda self: in_order(self)[::-1]
sys.exit(main())
