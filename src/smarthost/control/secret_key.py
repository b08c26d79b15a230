"""Django's signing key, derived from the installation's key file so that there is one secret to keep."""

from __future__ import annotations

from smarthost.config import ProcessSettings
from smarthost.vault import load_or_create_key


def signing_key(process: ProcessSettings) -> str:
    """The key that signs sessions, links and tokens: the same in every process of an installation.

    Raises SecretError where the key file can be neither read nor made.
    """
    return load_or_create_key(process.secret_key_file).derive("django-signing").hex()
