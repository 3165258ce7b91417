"""Nix: build, closure manifest, binary cache (push, sign, verify)."""

from g5kdeploy.closure.build import build, programs
from g5kdeploy.closure.bundle import Bundle, push_bundle
from g5kdeploy.closure.cache import Pushed, push
from g5kdeploy.closure.keys import Key, signing_key
from g5kdeploy.closure.manifest import Manifest, PathInfo, RoleClosure

__all__ = [
    "Bundle",
    "Key",
    "Manifest",
    "PathInfo",
    "Pushed",
    "RoleClosure",
    "build",
    "programs",
    "push",
    "push_bundle",
    "signing_key",
]
