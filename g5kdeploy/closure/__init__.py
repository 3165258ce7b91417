"""Nix: build, closure manifest, binary cache (push, sign, verify)."""
