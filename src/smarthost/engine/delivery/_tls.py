"""TLS towards upstreams: contexts from settings, and the pin.

Minimum TLS 1.2 (RFC 8996). Three ways to trust: the system's authorities, a private CA alone where one is
configured, or a pin, which is the certificate itself and needs neither authority nor name. Verification that
is switched off accepts anybody; the caller warns. A context is made once per version of an upstream, since
reading the authorities takes milliseconds.
"""

from __future__ import annotations

import hmac
import os
import ssl
import tempfile
from hashlib import sha256
from pathlib import Path

from smarthost.errors import ConfigError
from smarthost.routing import Upstream


def make_context(upstream: Upstream, client_key_pem: str = "") -> ssl.SSLContext:
    """The context for connections to `upstream`; `client_key_pem` is its opened client key.

    Raises ConfigError where the CA or the client certificate cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    if not upstream.verify or upstream.pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if upstream.ca_pem:
            context.load_verify_locations(cadata=upstream.ca_pem)
        elif context.verify_mode is ssl.CERT_REQUIRED:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"The CA of {upstream.name} cannot be read: {error}", field="ca_pem") from None
    if upstream.client_cert_pem:
        try:
            _load_chain(context, upstream.client_cert_pem, client_key_pem)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"The client certificate of {upstream.name} cannot be used: {error}", field="client_cert_pem"
            ) from None
    return context


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL's binding wants a file: an anonymous one in memory, so that the key never reaches a disk."""
    data = f"{certificate.strip()}\n{key.strip()}\n".encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:  # mode 0700
        path = Path(folder) / "client.pem"
        path.write_bytes(data)
        context.load_cert_chain(path)


def pin_mismatch(pin: str, ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """Why the peer is not the pinned one, or None where it is. The pin is SHA-256 of the DER, in hex."""
    if not pin:
        return None
    certificate = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    if not certificate:
        return "The server showed no certificate to compare with the pinned one"
    found = sha256(certificate).hexdigest()
    if hmac.compare_digest(found, pin.replace(":", "").lower()):
        return None
    return f"The server's certificate is not the pinned one: its SHA-256 is {found}"
