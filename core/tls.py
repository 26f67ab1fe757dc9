"""TLS of our own listeners, for who puts no proxy in front: two files, modern protocol versions only."""

from __future__ import annotations

import ssl

from core.errors import Misconfigured
from core.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The context of the API's and the device stream's listeners; None: they speak plainly, behind a proxy.

    TLS 1.2 with forward secrecy and 1.3 only, our order of ciphers, no compression. Raises Misconfigured when one file
    is missing or cannot be read.
    """
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise Misconfigured("Give both QORGAN_TLS_CERTIFICATE_FILE and QORGAN_TLS_KEY_FILE, or neither.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"The TLS certificate or key cannot be used: {error.strerror or error}.") from None
    return context
