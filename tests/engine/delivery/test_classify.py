"""Whose fault a failure is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.engine.delivery._classify import SETUP, Fault, about_recipient, classify, fingerprint

ROUTE = [
    # Refused logins, in the words of real servers.
    ("auth", 535, "5.7.8", "Error: authentication failed: UGFzc3dvcmQ6", Fault.CREDENTIALS),
    ("auth", 535, "", "Incorrect authentication data", Fault.CREDENTIALS),
    ("auth", 534, "5.7.9", "Application-specific password required.", Fault.CREDENTIALS),
    ("auth", 535, "5.7.139", "Authentication unsuccessful, basic authentication is disabled.", Fault.CREDENTIALS),
    ("auth", 454, "4.7.0", "Too many login attempts, please try again later.", Fault.CREDENTIALS),
    ("auth", 454, "4.7.0", "Temporary authentication failure", Fault.SESSION),
    ("auth", 503, "", "Bad sequence", Fault.SESSION),
    ("auth", 504, "5.5.4", "Encryption required for requested authentication mechanism", Fault.TLS),
    ("auth", 550, "5.7.30", "Basic authentication is not supported for Client Submission.", Fault.CREDENTIALS),
    ("auth", 421, "4.7.66", "TLS 1.0 and 1.1 are not supported.", Fault.TLS),
    ("auth", 451, "", "Authentication failed: Maximum credits exceeded", Fault.QUOTA),
    ("mail", 530, "5.7.0", "Must issue a STARTTLS command first", Fault.TLS),
    ("mail", 530, "5.7.0", "Authentication Required.", Fault.CREDENTIALS),
    ("mail", 530, "5.7.57", "Client was not authenticated to send anonymous mail during MAIL FROM", Fault.CREDENTIALS),
    ("mail", 550, "5.7.1", "Invalid credentials for relay", Fault.CREDENTIALS),
    ("mail", 550, "", "Unauthenticated senders not allowed", Fault.CREDENTIALS),
    ("rcpt", 550, "", "Relay access denied - please authenticate", Fault.CREDENTIALS),
    # Quotas and rates.
    ("data", 454, "", "Throttling failure: Daily message quota exceeded", Fault.QUOTA),
    ("data", 454, "", "Throttling failure: Maximum sending rate exceeded", Fault.THROTTLE),
    ("dot", 554, "5.2.0", "STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Fault.QUOTA),
    ("rcpt", 450, "4.2.1", "Peak SMTP relay limit exceeded for customer. This is a temporary error.", Fault.QUOTA),
    ("dot", 550, "5.7.0", "Requested action not taken: too many emails per second", Fault.THROTTLE),
    ("banner", 421, "4.7.0", "Too many connections", Fault.THROTTLE),
    ("banner", 421, "", "mail.example.com: Too many concurrent SMTP connections; please try again later.", Fault.THROTTLE),
    ("dot", 455, "", "Maximum messages sent per minute reached : limit is 10", Fault.THROTTLE),
    # Everything before MAIL.
    ("dns", 0, "", "Name or service not known", Fault.DNS),
    ("connect", 0, "", "Connection refused", Fault.CONNECT),
    ("starttls", 454, "4.7.0", "TLS not available due to local problem", Fault.TLS),
    ("tls", 0, "", "certificate verify failed", Fault.TLS),
    ("banner", 554, "", "SMTP synchronization error", Fault.SESSION),
    ("ehlo", 550, "", "Access denied - Invalid HELO name", Fault.SESSION),
]  # fmt: skip

MESSAGE = [
    ("rcpt", 550, "5.1.1", "No such user"),
    ("rcpt", 450, "4.2.1", "The user you are trying to contact is receiving mail at a rate that is too high"),
    ("rcpt", 450, "4.2.0", "Recipient address rejected: Greylisted"),
    ("rcpt", 452, "4.2.2", "The recipient's mailbox is over its quota limit"),
    ("rcpt", 552, "5.2.2", "mailbox full, quota exceeded"),
    ("mail", 552, "5.3.4", "Message size exceeds fixed limit"),
    ("dot", 552, "", "Message is too long."),
    ("dot", 554, "5.7.1", "Message contains spam or a virus"),
    ("dot", 550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"),
    ("dot", 530, "", "From/Sender name is not valid"),
    ("rcpt", 554, "5.7.1", "Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    ("dot", 451, "", "Timeout waiting for data from client"),
    ("mail", 0, "", "the connection was lost"),
]


@pytest.mark.parametrize(("stage", "code", "enhanced", "text", "fault"), ROUTE)
def test_it_knows_faults_of_the_route(stage: str, code: int, enhanced: str, text: str, fault: Fault) -> None:
    assert classify(stage, code, enhanced, text) is fault


@pytest.mark.parametrize(("stage", "code", "enhanced", "text"), MESSAGE)
def test_it_leaves_to_the_message_what_is_its_own(stage: str, code: int, enhanced: str, text: str) -> None:
    assert classify(stage, code, enhanced, text) is Fault.MESSAGE


@given(st.sampled_from(sorted(SETUP)), st.integers(0, 599), st.text(max_size=10), st.text(max_size=200))
def test_nothing_before_mail_is_ever_held_against_a_message(
    stage: str, code: int, enhanced: str, text: str
) -> None:
    if stage in ("banner", "ehlo"):
        text = "".join(text.split("mailbox"))
    assert classify(stage, code, enhanced, text) is not Fault.MESSAGE


def test_a_fingerprint_forgets_addresses_ids_and_numbers() -> None:
    one = fingerprint("dot", 550, "5.7.1", "<a@x.example>: relay denied, id 4BxQ77 at [192.0.2.1] (12 seen)")
    other = fingerprint(
        "dot", 550, "5.7.1", "<bob@y.example>: relay denied, id 9Zz1 at [192.0.2.7] (44 seen)"
    )
    assert one == other
    assert one != fingerprint("dot", 550, "5.7.1", "<a@x.example>: spam, id 4BxQ77")


def test_refusals_of_one_recipient_prove_nothing_about_the_route() -> None:
    assert about_recipient("rcpt", "5.1.1", "no such user")
    assert about_recipient("rcpt", "", "Greylisted, try later")
    assert not about_recipient("rcpt", "5.7.1", "relaying denied")
    assert not about_recipient("dot", "5.1.1", "no such user")
