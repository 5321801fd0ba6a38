"""The certificates of servers with TLS."""

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
"""What openssl makes for a certificate: a key that is found at once, as one of RSA isn't."""


def sign_itself(name: str, certificate: Path, key: Path) -> None:
    """Make a certificate of a host, as `DNS:localhost`, that vouches for itself, and its key."""
    command = ["openssl", "req", "-x509", *KEY, "-days", "2", "-subj", "/CN=holdall test"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
