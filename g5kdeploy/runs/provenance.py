"""What a run says to other programs about itself: an RO-Crate, and a CycloneDX list of what the nodes ran."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from g5kdeploy import __version__
from g5kdeploy.base import files
from g5kdeploy.runs.run import Run

_KINDS = {
    "run.json": "What was asked and what was got: versions, closures, job, nodes, times of the phases",
    "events.jsonl": "The event stream of the run",
    "experiment.yaml": "The experiment file as it was",
    "closure.json": "The closure manifest: every store path with NAR hash and size",
    "report.html": "The report for people",
    "sbom.cdx.json": "The software that the nodes ran (CycloneDX)",
}


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def write_crate(run: Run) -> Path:
    """Write ro-crate-metadata.json (RO-Crate 1.1) over everything in the folder; its path."""
    document = run.document()
    parts = [_part(run.folder, path) for path in _payload(run.folder)]
    records = run.phases().values()
    began = min((record.started for record in records), default=document["created"])
    ended = max((record.ended or record.started for record in records), default=document["created"])
    tool = "#g5kdeploy"
    graph: list[dict[str, Any]] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{run.name} {run.id}",
            "description": f"A run of the experiment {run.name} on testbed {run.testbed}, site {run.site}",
            "identifier": run.id,
            "datePublished": _iso(ended),
            "license": "not stated",
            "hasPart": [{"@id": part["@id"]} for part in parts],
            "mentions": [{"@id": "#run"}],
        },
        {
            "@id": "#run",
            "@type": "CreateAction",
            "name": f"Run {run.id}",
            "startTime": _iso(began),
            "endTime": _iso(ended),
            "instrument": {"@id": tool},
            "object": [{"@id": "experiment.yaml"}],
            "result": [{"@id": part["@id"]} for part in parts if part["@id"] != "experiment.yaml"],
        },
        {
            "@id": tool,
            "@type": "SoftwareApplication",
            "name": "g5kdeploy",
            "version": document["versions"]["g5kdeploy"],
        },
        *parts,
    ]
    path = run.folder / "ro-crate-metadata.json"
    files.write_json(path, {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph})
    return path


def _payload(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != "ro-crate-metadata.json"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _part(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    kind = {".parquet": "application/vnd.apache.parquet", ".jsonl": "application/jsonl", ".yaml": "application/yaml"}
    part = {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
    }
    return {**part, "description": _KINDS[name]} if name in _KINDS else part


def write_sbom(run: Run) -> Path:
    """Write sbom.cdx.json (CycloneDX 1.5) from the run's closure manifest: packages of its lock, and store paths."""
    manifest = files.read_json(run.manifest_file) if run.manifest_file.exists() else {}
    packages = _packages(manifest.get("built", {}))
    components = [_package(name, package) for name, package in sorted(packages.items())]
    components += [_store_path(path, info) for path, info in sorted(manifest.get("paths", {}).items())]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": _iso(run.document()["created"]),
            "tools": {"components": [{"type": "application", "name": "g5kdeploy", "version": __version__}]},
            "component": {"type": "operating-system", "name": run.name, "version": run.id, "bom-ref": run.id},
        },
        "components": components,
    }
    path = run.folder / "sbom.cdx.json"
    files.write_json(path, document)
    return path


def _packages(built: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The lock in a manifest's `built`: package name -> version, sha256, file."""
    lock = built.get("lock")
    return lock if isinstance(lock, Mapping) else {}


def _package(name: str, package: Mapping[str, Any]) -> dict[str, Any]:
    version = str(package.get("version", ""))
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"deb:{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:deb/debian/{name}@{version}",
    }
    if sha256 := package.get("sha256"):
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if file := package.get("file"):
        component["properties"] = [{"name": "g5kdeploy:file", "value": file}]
    return component


def _store_path(path: str, info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": path,
        "name": path,
        "properties": [
            {"name": "nix:narHash", "value": str(info.get("nar_hash", ""))},
            {"name": "nix:narSize", "value": str(info.get("nar_size", ""))},
        ],
    }
