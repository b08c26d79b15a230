"""The commands as scripts rely on them: names, flags, JSON, exit codes; and that no secret ever shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peers.service import Service
from smarthost.cli import queue
from smarthost.spool import Door, Filter, open_spool

PASSWORD = "s3cret-of-the-server"


@pytest.fixture(scope="module")
def first(service: Service, folder: Path) -> dict[str, Any]:
    """The first server that is set, with every flag of the contract; what was said, and the mode after it.

    Tests may run in any order and on several workers, so each leaves this server the default one and the
    installation in capture mode, and "shop" its application.
    """
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("client.example.org")
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "client.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (folder / "client.key").write_bytes(issued.private_key_pem.bytes())
    words = ["--host", "smtp.example.com", "--port", "2587", "--encryption", "starttls", "--no-verify"]
    words += ["--ca-file", f"{folder}/ca.pem", "--pin", "ab" * 32, "--auth", "plain", "--username", "me"]
    words += ["--client-cert", f"{folder}/client.pem", "--client-key", f"{folder}/client.key"]
    words += [
        "--password-stdin",
        "--helo",
        "mail.example.org",
        "--from",
        "me@example.org",
        "--from-name",
        "Me",
    ]
    words += ["--name", "first", "--no-check", "--json"]
    done = service.command("upstream", "set", *words, stdin=PASSWORD + "\n")
    mode = service.json("mode")["mode"]
    service.command("mode", "capture")
    return {
        "done": done,
        "made": json.loads(done.stdout),
        "mode": mode,
        "shop": service.json("app", "add", "shop", "--token"),
    }


def test_an_upstream_is_set_with_every_flag_of_the_contract(first: dict[str, Any]) -> None:
    done, made = first["done"], first["made"]
    assert made["tested"] is False
    assert (made["name"], made["host"], made["port"], made["encryption"]) == (
        "first",
        "smtp.example.com",
        2587,
        "starttls",
    )
    assert (made["verify"], made["pin"], made["mechanism"]) == (False, "ab" * 32, "plain")
    assert (made["has_password"], made["has_client_key"], made["default"]) == (True, True, True)
    assert PASSWORD not in done.stdout + done.stderr
    assert "PRIVATE KEY" not in done.stdout
    assert first["mode"] == "live"


def test_saving_says_that_nothing_was_tested(service: Service, first: dict[str, Any]) -> None:
    done = service.command(
        "upstream", "set", "--host", "mx.example.com", "--name", "second", "--encryption", "tls"
    )
    assert "saved, not tested" in done.stdout
    assert service.json("upstream", "show", "second")["port"] == 465
    assert {row["name"] for row in service.json("upstream", "list")} >= {"first", "second"}
    service.command("upstream", "default", "second")
    assert service.json("upstream", "show")["name"] == "second"
    assert "second" in service.command("upstream", "list").stdout
    service.command("upstream", "default", "first")
    service.command("upstream", "remove", "second")
    assert service.command("upstream", "show", "second", check=False).returncode == 4


def test_a_password_never_goes_to_another_host_and_is_never_an_argument(
    service: Service, first: dict[str, Any]
) -> None:
    done = service.command("upstream", "set", "--name", "first", "--host", "evil.example.net", check=False)
    assert done.returncode == 6
    assert "password" in done.stderr
    assert service.command("upstream", "set", "--password", "x", check=False).returncode == 2
    assert (
        service.command("upstream", "set", "--username", "me", "--name", "first", check=False).returncode == 6
    )
    assert PASSWORD not in service.command("upstream", "show", "first").stdout


def test_setting_a_server_again_keeps_what_is_not_named_and_says_what_changed(
    service: Service, first: dict[str, Any]
) -> None:
    assert "what is left out stays as it is" in " ".join(
        service.command("upstream", "set", "--help").stdout.lower().split()
    )
    words = ["upstream", "set", "--name", "again"]
    made = service.json(*words, "--host", "mx.example.com", "--rate", "30", "--from-name", "Old")
    assert (made["created"], made["changed"]) == (True, [])
    done = service.command(*words, "--rate", "60", "--from-name", "", "--no-verify")
    assert done.stdout.splitlines()[1:-1] == [
        "  verify: yes is now no",
        "  from_name: Old is now (empty)",
        "  rate: 30 is now 60",
    ]
    kept = service.json(*words, "--username", "me", "--password-stdin", stdin="hidden-word\n")
    assert (kept["host"], kept["rate"], kept["verify"], kept["created"]) == (
        "mx.example.com",
        60,
        False,
        False,
    )
    assert kept["changed"] == ["username", "password"]
    done = service.command(*words, "--password-stdin", stdin="other-word\n")
    assert "  password is changed" in done.stdout
    assert "word\n" not in done.stdout.replace("password", "")
    assert "nothing is changed" in service.command(*words, "--rate", "60").stdout
    service.command("upstream", "remove", "again")


def test_an_encryption_of_none_is_warned_of(service: Service, first: dict[str, Any]) -> None:
    done = service.command(
        "upstream", "set", "--name", "clear", "--host", "10.0.0.1", "--encryption", "none", "--username", "u",
        "--password-stdin", stdin="p\n",
    )  # fmt: skip
    assert "can be read on the way" in done.stderr
    service.command("upstream", "remove", "clear")


def test_an_application_gets_its_credential_once(service: Service) -> None:
    made = service.json("app", "add", "printer")
    assert set(made) >= {"username", "password"}
    assert "token" not in made
    shown = json.dumps(service.json("app", "show", "printer")) + json.dumps(service.json("app", "list"))
    assert made["password"] not in shown
    again = service.command("app", "add", "printer", check=False)
    assert again.returncode == 3
    assert "printer" in again.stderr


def test_a_network_or_a_uid_replaces_the_credential_and_a_token_adds_one(service: Service) -> None:
    network = service.json("app", "add", "scanner", "--network", "192.0.2.0/24")
    assert "password" not in network
    assert service.json("app", "show", "scanner")["networks"] == ["192.0.2.0/24"]
    assert "password" not in service.json("app", "add", "cron", "--uid", "4711", "--uid", "nobody")
    assert "token" in service.json("app", "add", "till", "--token")
    equal = service.command("app", "add", "other", "--network", "192.0.2.0/24", check=False)
    assert equal.returncode == 6
    assert service.command("app", "add", "x", "--uid", "no-such-user", check=False).returncode == 2
    old = service.json("app", "add", "rotating")["password"]
    new = service.json("app", "rotate", "rotating")["password"]
    assert old != new
    service.command("app", "remove", "rotating")
    assert service.command("app", "show", "rotating", check=False).returncode == 4


def test_users_are_added_with_a_password_or_a_link(service: Service) -> None:
    made = service.json(
        "user", "add", "ann@example.org", "--role", "admin", "--password-stdin", stdin="correct horse 9\n"
    )
    assert (made["email"], made["role"]) == ("ann@example.org", "admin")
    linked = service.json("user", "add", "bob@example.org", "--link")
    assert linked["role"] == "member"
    assert re.fullmatch(rf"http://127\.0\.0\.1:{service.http}/\S{{20,}}", linked["link"])
    assert service.json("user", "link", "bob@example.org")["link"] != linked["link"]
    assert service.json("user", "role", "bob@example.org", "auditor")["role"] == "auditor"
    service.command("user", "verify", "bob@example.org", "robert@example.org")
    addresses = {user["username"]: user["addresses"] for user in service.json("user", "list")}[
        "bob@example.org"
    ]
    assert {"address": "robert@example.org", "verified": True} in addresses
    assert service.command("user", "add", "x@example.org", check=False).returncode == 6


def test_tokens_are_shown_once_and_can_be_revoked(service: Service, first: dict[str, Any]) -> None:
    made = service.json("token", "add", "shop", "--scope", "messages:send", "--days", "1", "--name", "ci")
    assert made["scopes"] == ["messages:send"]
    listed = service.json("token", "list")
    assert made["token"] not in json.dumps(listed)
    assert made["id"] in [entry["id"] for entry in listed]
    service.command("token", "revoke", made["id"])
    assert made["id"] not in [entry["id"] for entry in service.json("token", "list")]
    assert service.command("token", "revoke", made["id"], check=False).returncode == 4
    assert service.command("token", "add", "nobody-such", check=False).returncode == 4
    assert service.command("token", "add", "shop", "--scope", "everything", check=False).returncode == 6


def test_admit_says_what_would_happen_and_sends_nothing(service: Service, first: dict[str, Any]) -> None:
    before = service.json("queue", "list")["counts"]
    service.command("mode", "live")
    answer = service.json("admit", "--from", "a@example.org", "--to", "b@example.com", "--as", "shop")
    (entry,) = answer["recipients"]
    assert (entry["admitted"], entry["upstream"]) == (True, "first")
    service.command("upstream", "set", "--name", "first", "--disable")
    refused = service.command("admit", "--to", "b@example.com", "--as", "shop", "--json", check=False)
    assert refused.returncode == 3
    assert "switched off" in json.loads(refused.stdout)["recipients"][0]["why"]
    service.command("upstream", "set", "--name", "first", "--enable")
    service.command("mode", "capture")
    captured = service.json("admit", "--to", "b@example.com", "--as", "shop")["recipients"][0]
    assert captured["captured"] is True
    assert service.command("admit", "--to", "a@b@c", "--as", "shop", check=False).returncode == 3
    assert service.json("queue", "list")["counts"] == before


def test_send_composes_a_mail_and_a_key_makes_it_one(
    service: Service, folder: Path, first: dict[str, Any]
) -> None:
    (folder / "ä.txt").write_text("attached")
    words = ["--to", "Ann <send1@example.com>", "--bcc", "send2@example.com", "--from", "Me <me@example.org>"]
    words += [
        "--subject",
        "Grüße\x1b[2J",
        "--attach",
        f"{folder}/ä.txt",
        "--header",
        "X-A: 1",
        "--as",
        "shop",
    ]
    bad = service.command("send", *words, "--text", "hi", check=False)
    assert bad.returncode == 3  # a control character is refused, not written
    words[7] = "Grüße"
    first = service.json("send", *words, "--idempotency-key", "k", stdin="hello\n")
    again = service.json("send", *words, "--idempotency-key", "k", stdin="hello\n")
    assert (again["id"], again["repeated"]) == (first["id"], True)
    other = service.command("send", *words, "--idempotency-key", "k", stdin="other\n", check=False)
    assert other.returncode == 3
    shown = service.json("queue", "show", first["id"])
    assert [entry["recipient"] for entry in shown["recipients"]] == ["send1@example.com", "send2@example.com"]
    assert (shown["door"], shown["principal"], shown["subject"]) == ("cli", "shop", "Grüße")
    content = service.command("queue", "show", first["id"], "--content").stdout
    assert "send2" not in content
    raw = "From: me@example.org\nTo: raw@example.com\nSubject: raw\n\nas it is\n"
    made = service.json("send", "--raw", "--as", "shop", stdin=raw)
    assert "as it is" in service.command("queue", "show", made["id"], "--content").stdout
    assert service.command("send", "--to", "a@b@c", "--as", "shop", stdin="x", check=False).returncode == 3
    assert service.command("send", "--as", "shop", stdin="x", check=False).returncode == 3


def test_queue_list_has_the_contracts_shape(service: Service, first: dict[str, Any]) -> None:
    words = ["--from", "me@example.org", "--to", "l1@example.com", "--to", "l2@example.com", "--as", "shop"]
    service.command("send", *words, "--subject", "listed", "--text", "x")
    answer = service.json("queue", "list")
    assert set(answer) >= {"counts", "rows"}
    words = {
        "queued",
        "sending",
        "sent",
        "captured",
        "deferred",
        "unknown",
        "failed",
        "expired",
        "cancelled",
        "held",
    }
    assert set(answer["counts"]) == words
    assert all(isinstance(count, int) for count in answer["counts"].values())
    assert {"id", "state", "recipient", "sender", "subject", "created_at"} <= set(answer["rows"][0])
    page = service.json("queue", "list", "--limit", "1")
    following = service.json("queue", "list", "--limit", "1", "--after", str(page["next"]))
    assert page["rows"][0]["delivery"] > following["rows"][0]["delivery"]
    assert service.json("queue", "list", "--state", "sent")["rows"] == []
    assert service.json("queue", "list", "--recipient", "l2@example.com")["rows"][0]["subject"] == "listed"


def test_queue_list_tells_the_null_sender_from_none_given(folder: Path) -> None:
    place = Service(folder / "senders")
    place.folder.mkdir()
    place.json("app", "add", "shop")
    id_ = place.json("send", "--to", "a@example.com", "--as", "shop", "--text", "x")["id"]
    assert "(server's From)" in place.command("queue", "list").stdout
    assert re.search(r"Sender +\(server's From\)", place.command("queue", "show", id_).stdout)
    with open_spool(f"sqlite:///{place.folder}/smarthost.db", place.folder, name="test") as store:
        row = store.find(Filter(), limit=1)[0]
    bounce = replace(row, door=Door.SMTP, sender="", header_from="daemon@example.com")
    assert queue._sender(bounce) == "<>"
    assert queue._sender(replace(bounce, door=Door.HTTP)) == "daemon@example.com"


def test_queue_actions_change_what_they_may_and_say_how_many(service: Service, first: dict[str, Any]) -> None:
    service.command("mode", "live")
    service.command(
        "upstream", "set", "--name", "parked", "--host", "127.0.0.1", "--port", "9", "--encryption", "none"
    )
    service.command("upstream", "default", "parked")
    words = ["--from", "me@example.org", "--as", "shop", "--send-at", "2099-01-01T00:00Z"]
    far = service.command("send", *words, "--to", "late@example.com", stdin="x", check=False)
    assert far.returncode == 3  # more than a year ahead
    words[-1] = _in_a_month()
    made = service.json("send", *words, "--to", "q1@example.com", "--to", "q2@example.com", stdin="x")["id"]
    act: Any = lambda *w: service.json("queue", *w)["changed"]  # noqa: E731
    assert act("hold", made, "--recipient", "q1@example.com") == 1
    assert [entry["state"] for entry in service.json("queue", "show", made)["recipients"]] == [
        "held",
        "queued",
    ]
    assert act("hold", made) == 1
    assert act("reroute", made, "--to", "first") == 2
    assert act("reroute", made, "--to", "parked") == 2
    assert act("cancel", made) == 2
    assert act("retry", made, "--recipient", "q2@example.com") == 1
    assert act("cancel", "--state", "queued", "--upstream", "parked") + act("cancel", "--all") >= 1
    nothing = service.command("queue", "release", made, check=False)
    assert nothing.returncode == 3
    assert service.command("queue", "release", check=False).returncode == 6
    assert service.command("queue", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV", check=False).returncode == 4
    assert service.command("queue", "hold", "01ARZ3NDEKTSV4RRFFQ69G5FAV", check=False).returncode == 4
    assert "q1@example.com: cancelled" in service.command("queue", "show", made).stdout
    service.command("mode", "capture")
    service.command("upstream", "default", "first")
    service.command("upstream", "remove", "parked")


def _in_a_month() -> str:
    import datetime as dt

    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).isoformat()


def test_settings_show_their_origin_and_aliases_map_local_mail(
    service: Service, first: dict[str, Any], folder: Path
) -> None:
    shown = service.json("config", "show")
    assert shown["limits.max_size"] == {"value": 50 * 2**20, "origin": "default", "locked": False}
    service.command("config", "set", "aliases.root", "admin@example.org")
    service.command("config", "set", "limits.max_size", "10 MiB")
    lines = service.command("config", "show", "--origin").stdout
    assert re.search(r"limits.max_size +10485760 +set by cli:\S+ at ", lines)
    answer = service.json("admit", "--to", "root", "--as", "shop")
    assert answer["recipients"][0]["recipient"] == "admin@example.org"
    service.command("config", "unset", "limits.max_size")
    assert service.json("config", "show")["limits.max_size"]["origin"] == "default"
    unknown = service.command("config", "set", "limits.max_sise", "1", check=False)
    assert unknown.returncode == 6
    assert "limits.max_size" in unknown.stderr
    assert service.json("config", "check") == {"ok": True, "problems": [], "warnings": []}


def test_config_check_names_file_line_and_nearest_setting(folder: Path) -> None:
    (folder / "bad.toml").write_text("[limits]\nmax_sise = 5\n")
    (folder / "elsewhere").mkdir()
    other = Service(folder / "elsewhere", environ={"SMARTHOST_CONFIG": str(folder / "bad.toml")})
    done = other.command("config", "check", check=False)
    assert done.returncode == 1
    assert "line 2" in done.stdout
    assert "max_size" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "list"),
        ("queue", "show", "x"),
        ("upstream", "list", "--bogus"),
        ("nonsense",),
        ("queue", "list", "--limit", "many"),
        ("upstream", "set", "--ho", "abbreviated"),
        (),
    ],
)
def test_whatever_is_wrong_is_one_sentence_and_a_stable_code(folder: Path, words: tuple[str, ...]) -> None:
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    done = Service(empty).command(*words, check=False)
    assert done.returncode in (2, 6)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert list(empty.iterdir()) == []  # a wrong SMARTHOST_DATA makes no second installation


def test_errors_are_json_too_where_json_was_asked_for(service: Service) -> None:
    done = service.command("queue", "show", "nothing", "--json", check=False)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["slug"] == "not-found"
    assert done.stderr.startswith("smarthost: ")


def test_a_reader_that_leaves_early_is_no_error(service: Service) -> None:
    program = Path(sys.executable).with_name("smarthost")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} config show | head -c 1 >/dev/null"],
        env=service.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_takes_json(service: Service) -> None:
    help_text = service.command("--help").stdout
    assert "sendmail" in help_text
    for words in (
        ["queue", "list"],
        ["upstream", "set"],
        ["app", "add"],
        ["doctor"],
        ["config", "show"],
        ["run"],
    ):
        assert "--json" in service.command(*words, "--help").stdout


def test_doctor_finds_nothing_wrong_with_a_good_installation(service: Service) -> None:
    answer = service.json("doctor")
    names = {finding["name"] for finding in answer["findings"]}
    errors = [finding for finding in answer["findings"] if finding["severity"] == "error"]
    assert (answer["ok"], errors) == (True, [])
    assert {
        "data-folder",
        "key-file",
        "sqlite",
        "synchronous",
        "free-space",
        "clock",
        "engine",
        "port",
    } <= names
