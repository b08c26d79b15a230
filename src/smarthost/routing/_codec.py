"""A directory, a principal and edits as JSON text, the form in which the store keeps them."""

from __future__ import annotations

import hashlib

import msgspec

from smarthost.errors import ConfigError
from smarthost.routing._types import Directory, Edits, Principal, Upstream
from smarthost.vault import Destination

_encoder = msgspec.json.Encoder()
_directory = msgspec.json.Decoder(Directory)
_principal = msgspec.json.Decoder(Principal)
_edits = msgspec.json.Decoder(Edits)


def encode_directory(directory: Directory) -> bytes:
    return _encoder.encode(directory)


def decode_directory(text: bytes | str) -> Directory:
    """Raises ConfigError where the text is not a directory of this version of Smarthost."""
    try:
        return _directory.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the stored directory cannot be read: {error}") from error


def encode_principal(principal: Principal) -> bytes:
    return _encoder.encode(principal)


def decode_principal(text: bytes | str) -> Principal:
    """Raises ConfigError where the text is not a principal of this version of Smarthost."""
    try:
        return _principal.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the stored principal cannot be read: {error}") from error


def encode_edits(edits: Edits | None) -> str | None:
    """The text for `NewDelivery.edits`: None where nothing is to be changed."""
    return None if edits is None or edits == NO_EDITS else _encoder.encode(edits).decode()


def decode_edits(text: str | None) -> Edits:
    """The inverse of `encode_edits`. Raises ConfigError where the text is no edits."""
    if not text:
        return NO_EDITS
    try:
        return _edits.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the stored edits cannot be read: {error}") from error


def hash_secret(secret: str) -> str:
    """Hex SHA-256. Fit for generated credentials alone: they have 160 bits, so no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def destination(upstream: Upstream) -> Destination:
    """What this server's sealed secrets are bound to."""
    return Destination(
        host=upstream.host,
        port=upstream.port,
        encryption=upstream.encryption.value,
        verify=upstream.verify,
        username=upstream.username,
        mechanism=upstream.mechanism,
    )


NO_EDITS = Edits()
