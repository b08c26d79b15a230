"""Secrets at rest: one key file, and sealed texts that open for one destination only."""

from smarthost.vault._file import create_key, key_file_findings, load_key, load_or_create_key
from smarthost.vault._key import Key, KeyEntry, random_secret
from smarthost.vault._seal import Destination, seal, unseal

__all__ = [
    "Destination",
    "Key",
    "KeyEntry",
    "create_key",
    "key_file_findings",
    "load_key",
    "load_or_create_key",
    "random_secret",
    "seal",
    "unseal",
]
