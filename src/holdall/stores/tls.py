"""Connections over TLS: the files that they take, and why one can't be made."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping

from holdall.errors import InvalidArgumentError


def context_of(files: Mapping[str, str | None]) -> ssl.SSLContext | None:
    """Read the files `tls_ca`, `tls_certificate` and `tls_key`; return None where there are none.

    Raises:
        InvalidArgumentError: They can't be read.
    """
    authority, certificate, key = files["tls_ca"], files["tls_certificate"], files["tls_key"]
    if not (authority or certificate or key):
        return None
    if key is not None and certificate is None:
        raise InvalidArgumentError("tls_key is the key of tls_certificate; give both")
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            # Without a password OpenSSL would ask for it at the terminal.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"tls_ca={authority!r} must be a file of certificates, and tls_certificate={certificate!r} and "
            f"tls_key={key!r} a certificate and its key (PEM, without a password): {error}"
        ) from error
    return context


def why_unreachable(error: BaseException, name: str) -> str | None:
    """Return why no connection can be made, where TLS or the system says it among the causes of an error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of the server at {name} can't be trusted ({cause.verify_message}); "
                "tls_ca= names the authority that signed it"
            )
        if isinstance(cause, ssl.SSLError):
            return (
                f"TLS with the server at {name} fails ({cause.reason}); does it speak TLS at this port, "
                "and does it ask for a certificate (tls_certificate=)?"
            )
        if isinstance(cause, socket.gaierror):
            return f"no host is known by the name in {name}; check its spelling"
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return (
                f"too many files are open to connect to the server at {name}; close some, or raise the "
                "limit (ulimit -n)"
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
