"""What a newcomer does first: start it, send with whatever is at hand, look what became of it."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from peers.service import Service
from tests.e2e.conftest import wait_for_state

NODE = Path(__file__).parent / "node"


def test_it_prints_where_to_look(service: Service) -> None:
    deadline = time.monotonic() + 20
    while "Smarthost is ready" not in (printed := service.log.read_text()):
        assert time.monotonic() < deadline, printed
        time.sleep(0.02)
    assert f"http://127.0.0.1:{service.http}" in printed
    assert f"127.0.0.1:{service.smtp}" in printed
    assert "capture" in printed.lower()
    assert re.search(r"http://127\.0\.0\.1:\d+/\S{20,}", printed), printed


def test_it_captures_mail_from_smtplib_and_says_so(service: Service) -> None:
    with smtplib.SMTP("127.0.0.1", service.smtp) as client:
        client.ehlo()
        client.mail("ann@example.org")
        client.rcpt("smtplib@example.com")
        code, text = client.data(b"Subject: hello\r\n\r\nFirst mail\r\n")
    assert code == 250
    assert b"captured, not sent" in text
    wait_for_state(service, "smtplib@example.com", "captured")


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is missing: apt-get install swaks")
def test_it_captures_mail_from_swaks(service: Service) -> None:
    subprocess.run(
        [
            "swaks",
            "--server",
            f"127.0.0.1:{service.smtp}",
            "--from",
            "ann@example.org",
            "--to",
            "swaks@example.com",
        ],
        check=True,
        capture_output=True,
    )
    wait_for_state(service, "swaks@example.com", "captured")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_it_captures_mail_from_curl_over_smtp(service: Service, folder: Path) -> None:
    (folder / "mail.txt").write_text("From: ann@example.org\nSubject: curl\n\nFrom curl\n")
    subprocess.run(
        ["curl", "-sS", f"smtp://127.0.0.1:{service.smtp}", "--mail-from", "ann@example.org"]
        + ["--mail-rcpt", "curl@example.com", "--upload-file", str(folder / "mail.txt")],
        check=True,
        capture_output=True,
    )
    wait_for_state(service, "curl@example.com", "captured")


def test_it_takes_mail_over_http_and_reads_it_back(service: Service) -> None:
    token = service.json("app", "add", "newcomer", "--token")["token"]
    message = {"from": "ann@example.org", "to": ["http@example.com"], "subject": "Grüße", "text": "Hallo"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.http}/api/v1/messages",
        data=json.dumps(message).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202
        made = json.load(answer)
    again = urllib.request.Request(
        f"http://127.0.0.1:{service.http}/api/v1/messages/{made['id']}",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(again) as answer:
        view = json.load(answer)
    assert view["subject"] == "Grüße"
    assert [(each["address"], each["state"]) for each in view["recipients"]] == [
        ("http@example.com", "captured")
    ]


def test_it_takes_mail_from_the_sendmail_command(service: Service) -> None:
    command = Path(sys.executable).with_name("smarthost")
    subprocess.run(
        [command, "sendmail", "-t", "-i"],
        env=service.environment(),
        input="From: cron@example.org\nTo: sendmail@example.com\nSubject: cron\n\nDone\n.\nreally\n",
        text=True,
        check=True,
    )
    row = wait_for_state(service, "sendmail@example.com", "captured")
    shown = service.json("queue", "show", row["id"])
    assert shown["door"] == "sendmail"


@pytest.mark.skipif(
    not (NODE / "node_modules").exists() or shutil.which("node") is None,
    reason="nodemailer is missing: npm ci --prefix tests/e2e/node",
)
def test_it_captures_mail_from_nodemailer(service: Service) -> None:
    script = f"""
    const transport = require('nodemailer').createTransport({{host: '127.0.0.1', port: {service.smtp}, ignoreTLS: true}});
    transport.sendMail({{from: 'ann@example.org', to: 'nodemailer@example.com', subject: 'node',
        text: 'text', html: '<b>html</b>', attachments: [{{filename: 'ä.txt', content: 'x'}}]}})
      .then(info => console.log(info.response));
    """
    done = subprocess.run(
        ["node", "-e", script], capture_output=True, text=True, check=True, cwd=NODE, env={**os.environ}
    )
    assert "captured, not sent" in done.stdout
    wait_for_state(service, "nodemailer@example.com", "captured")


def test_it_captures_mail_from_a_django_project(service: Service, folder: Path) -> None:
    token = service.json("app", "add", "django", "--token")["token"]
    script = f"""
import django
from django.conf import settings
settings.configure(
    EMAIL_BACKEND="smarthost_client.django.EmailBackend",
    SMARTHOST_URL="http://127.0.0.1:{service.http}", SMARTHOST_TOKEN="{token}",
)
django.setup()
from django.core.mail import EmailMultiAlternatives
message = EmailMultiAlternatives("Subject", "text", "ann@example.org", ["django@example.com"], bcc=["bcc@example.com"])
message.attach_alternative("<p>html</p>", "text/html")
message.attach("a.csv", "1,2", "text/csv")
assert message.send() == 1
"""
    client = Path(__file__).parents[2] / "clients" / "python" / "src"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(client)}, cwd=folder
    )
    row = wait_for_state(service, "django@example.com", "captured")
    wait_for_state(service, "bcc@example.com", "captured")
    raw = service.command("queue", "show", row["id"], "--content").stdout
    parsed = email.message_from_string(raw, policy=email.policy.default)
    assert parsed.get_body(("plain",)).get_content().strip() == "text"
    assert [part.get_filename() for part in parsed.iter_attachments()] == ["a.csv"]
