"""Send mail through Smarthost. Standard library only."""

from smarthost_client._client import Client
from smarthost_client._errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    SmarthostError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedFeatureError,
)
from smarthost_client._types import Attachment, Message, Recipient, Sent

__all__ = [
    "Attachment",
    "Client",
    "ConflictError",
    "Message",
    "NotFoundError",
    "Recipient",
    "RefusedError",
    "Sent",
    "SmarthostError",
    "UnauthorizedError",
    "UnavailableError",
    "UnsupportedFeatureError",
]
