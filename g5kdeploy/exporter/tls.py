"""The tls_server_config of a web configuration, as a context of Python's ssl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .document import Part

_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
_CLIENTS = {"NoClientCert": "CERT_NONE", "VerifyClientCertIfGiven": "CERT_OPTIONAL"}
_CLIENTS["RequireAndVerifyClientCert"] = "CERT_REQUIRED"
_UNVERIFIED = {"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
# Go's names of what Go holds to be secure; TLS 1.3 chooses its own.
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_TLS13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
_TEXTS = ("cert", "key", "client_ca", "cert_file", "key_file", "client_ca_file", "client_auth_type")
_KNOWN = (*_TEXTS, "client_allowed_sans", "min_version", "max_version", "cipher_suites")


@dataclass(frozen=True)
class Tls:
    """A context, whose client certificates must carry one of the names if there are any, and the files it came from."""

    context: Any = None
    allowed_sans: frozenset[str] = frozenset()
    files: tuple[Path, ...] = field(default=())


def read_tls(part: Part, folder: Path) -> Tls:
    """Paths are relative to the web configuration's folder. Mistakes are added to the part's; then no context."""
    known = dict.fromkeys((*_KNOWN, "prefer_server_cipher_suites", "curve_preferences"), False)
    before = len(part.mistakes.entries)
    found = part.fields("tls_server_config", known)
    if not found:
        return Tls()
    texts = {name: found[name].value(name, str) or "" for name in _TEXTS if name in found}
    for name in ("cert", "key"):
        if not texts.get(name) and not texts.get(f"{name}_file"):
            part.wrong(f"tls_server_config lacks {name}_file")
        elif texts.get(name) and texts.get(f"{name}_file"):
            found[name].wrong(f"{name} and {name}_file cannot both be given")
    _check_clients(part, found, texts)
    sans = found["client_allowed_sans"].strings("client_allowed_sans") if "client_allowed_sans" in found else []
    if sans and texts.get("client_auth_type") != "RequireAndVerifyClientCert":
        found["client_allowed_sans"].wrong("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
    files = tuple(folder / texts[name] for name in ("cert_file", "key_file", "client_ca_file") if texts.get(name))
    if len(part.mistakes.entries) > before:
        return Tls(files=files)
    context = _context(part, found, texts, folder)
    return Tls(context, frozenset(sans), files)


def _check_clients(part: Part, found: dict[str, Part], texts: dict[str, str]) -> None:
    kind = texts.get("client_auth_type") or "NoClientCert"
    authority = texts.get("client_ca") or texts.get("client_ca_file")
    if kind in _UNVERIFIED:
        found["client_auth_type"].wrong(f"{kind} verifies nothing: use RequireAndVerifyClientCert")
    elif kind not in _CLIENTS:
        found["client_auth_type"].wrong(f"unknown client_auth_type {kind}; known: {', '.join(_CLIENTS)}")
    elif kind == "NoClientCert" and authority:
        part.wrong("a client_ca is of no use without client_auth_type: RequireAndVerifyClientCert")
    elif kind != "NoClientCert" and not authority:
        part.wrong(f"client_auth_type {kind} needs client_ca_file, which says whose certificates are good")


def _context(part: Part, found: dict[str, Part], texts: dict[str, str], folder: Path) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = getattr(ssl, _CLIENTS[texts.get("client_auth_type") or "NoClientCert"])
    context.set_alpn_protocols(["http/1.1"])
    for name, default, end in (
        ("min_version", "TLS12", "minimum_version"),
        ("max_version", "TLS13", "maximum_version"),
    ):
        word = found[name].value(name, str) if name in found else default
        if word not in _VERSIONS:
            found[name].wrong(f"unknown {name} {word}; known: {', '.join(_VERSIONS)}")
        else:
            setattr(context, end, getattr(ssl.TLSVersion, _VERSIONS[word]))
    _ciphers(found, context)
    try:
        with _file(texts, "cert", folder) as certificate, _file(texts, "key", folder) as key:
            # An encrypted key is an error, not a question on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as problem:
        found.get("cert_file", part).wrong(f"certificate and key cannot be used: {_reason(problem)}")
    try:
        if texts.get("client_ca") or texts.get("client_ca_file"):
            with _file(texts, "client_ca", folder) as authority:
                context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as problem:
        found.get("client_ca_file", part).wrong(f"the client_ca cannot be used: {_reason(problem)}")
    return context


def _ciphers(found: dict[str, Part], context: Any) -> None:
    import ssl

    order = found.get("prefer_server_cipher_suites")
    if order is not None and order.value("prefer_server_cipher_suites", bool) is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if "cipher_suites" in found:
        names = found["cipher_suites"].strings("cipher_suites")
        if unknown := [name for name in names if name not in _CIPHERS and name not in _TLS13]:
            found["cipher_suites"].wrong(f"unknown cipher suites {', '.join(unknown)}; known: {', '.join(_CIPHERS)}")
        elif old := [_CIPHERS[name] for name in names if name in _CIPHERS]:
            context.set_ciphers(":".join(old))
    if "curve_preferences" in found:
        curves = found["curve_preferences"].strings("curve_preferences")
        if len(curves) > 1 or any(curve not in _CURVES for curve in curves):
            found["curve_preferences"].wrong(f"curve_preferences can name one of {', '.join(_CURVES)}")
        elif curves:
            try:
                context.set_ecdh_curve(_CURVES[curves[0]])
            except (ssl.SSLError, ValueError):  # X25519 is none of the curves that a Python before 3.11.4 can name
                found["curve_preferences"].wrong(f"this machine's Python cannot prefer {curves[0]}")


@contextmanager
def _file(texts: dict[str, str], name: str, folder: Path) -> Iterator[str]:
    """Where it can be read: OpenSSL wants files also for what stands in the configuration itself."""
    if texts.get(f"{name}_file"):
        file = folder / texts[f"{name}_file"]
        file.read_bytes()  # says which file it is that cannot be read
        yield str(file)
        return
    with open(os.memfd_create(name), "wb", buffering=0) as kept:  # noqa: PTH123 - a descriptor, no path
        kept.write(texts[name].encode())
        yield f"/proc/self/fd/{kept.fileno()}"


def _reason(problem: Exception) -> str:
    import ssl

    if isinstance(problem, ssl.SSLError):
        words = (problem.reason or str(problem)).lower().replace("_", " ")
        return {"key values mismatch": "the key is another certificate's"}.get(words, words)
    return f"{getattr(problem, 'filename', '')}: {getattr(problem, 'strerror', problem)}"


def names_of(certificate: Any) -> set[str]:
    """The alternative names of a verified client certificate, as ssl tells it: DNS, IP, e-mail, URI."""
    return {value for _, value in (certificate or {}).get("subjectAltName", ())}
