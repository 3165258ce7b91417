"""JUnit XML: one testcase for the whole script and one for each subtest, as the NixOS test driver writes it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from g5kdeploy.base import files
from g5kdeploy.base.text import clean
from g5kdeploy.vmtest.verdict import Kind, Part

_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(path: Path, suite: str, parts: Sequence[Part], at: float | None = None) -> None:
    """Write the parts of a verdict as JUnit XML; `at` is when it was given (unix time)."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    counts = {
        "tests": str(len(parts)),
        "failures": str(sum(part.kind is Kind.FAILED for part in parts)),
        "errors": str(sum(part.kind is Kind.ERROR for part in parts)),
        "skipped": "0",
        "time": f"{parts[0].seconds if parts else 0:.3f}",
    }
    root = ET.Element("testsuites", {key: counts[key] for key in ("tests", "failures", "errors", "time")})
    element = ET.SubElement(root, "testsuite", {"name": _text(suite), **counts, "timestamp": stamp})
    for part in parts:
        names = {"classname": _text(suite), "name": _text(part.name), "time": f"{part.seconds:.3f}"}
        case = ET.SubElement(element, "testcase", names)
        if part.kind is not Kind.PASSED:
            tag = "failure" if part.kind is Kind.FAILED else "error"
            fault = ET.SubElement(case, tag, {"message": _text(part.message), "type": part.kind.value})
            fault.text = _text(part.detail)
    ET.indent(root)
    files.write(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _text(text: str) -> str:
    """Without what XML cannot say."""
    return _NOT_XML.sub("\ufffd", clean(text))
