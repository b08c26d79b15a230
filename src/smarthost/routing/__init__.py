"""Who may send what through which server: the directory, and `admit`, the one decision."""

from smarthost.routing._admit import NULL_SENDER_DOORS, admit, check_message
from smarthost.routing._codec import (
    decode_directory,
    decode_edits,
    decode_principal,
    destination,
    encode_directory,
    encode_edits,
    encode_principal,
    hash_secret,
)
from smarthost.routing._networks import check_directory, network_principal
from smarthost.routing._refusals import to_error
from smarthost.routing._types import (
    Admitted,
    Decision,
    Directory,
    Edits,
    Encryption,
    Limits,
    Mode,
    Principal,
    Refusal,
    Retention,
    Submission,
    UnknownPolicy,
    Upstream,
    UpstreamKind,
)

__all__ = [
    "NULL_SENDER_DOORS",
    "Admitted",
    "Decision",
    "Directory",
    "Edits",
    "Encryption",
    "Limits",
    "Mode",
    "Principal",
    "Refusal",
    "Retention",
    "Submission",
    "UnknownPolicy",
    "Upstream",
    "UpstreamKind",
    "admit",
    "check_directory",
    "check_message",
    "decode_directory",
    "decode_edits",
    "decode_principal",
    "destination",
    "encode_directory",
    "encode_edits",
    "encode_principal",
    "hash_secret",
    "network_principal",
    "to_error",
]
