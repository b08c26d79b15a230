"""Addresses, header sections and content: pure functions, no I/O.

Nothing here opens a socket or knows a database. The one strict address parser, the reader of submitted
header sections and the only writer of header fields stand behind this facade.
"""

from smarthost.mail._address import Address, complete, parse_address, parse_path
from smarthost.mail._compose import Attachment, Composition, build
from smarthost.mail._edit import edit_headers
from smarthost.mail._mailbox import Mailbox, parse_mailbox, parse_mailbox_list
from smarthost.mail._newlines import NewlineNormaliser, normalise_newlines
from smarthost.mail._notice import Action, Notice, NoticeRecipient, build_notice
from smarthost.mail._read import HeaderFacts, header_recipients, read_headers
from smarthost.mail._stamp import date_text, new_message_id, received
from smarthost.mail._words import decode_words, safe_text

__all__ = [
    "Action",
    "Address",
    "Attachment",
    "Composition",
    "HeaderFacts",
    "Mailbox",
    "NewlineNormaliser",
    "Notice",
    "NoticeRecipient",
    "build",
    "build_notice",
    "complete",
    "date_text",
    "decode_words",
    "edit_headers",
    "header_recipients",
    "new_message_id",
    "normalise_newlines",
    "parse_address",
    "parse_mailbox",
    "parse_mailbox_list",
    "parse_path",
    "read_headers",
    "received",
    "safe_text",
]
