"""Native files: what they say, where each value stands, and every mistake at once."""

from pathlib import Path

import pytest

from smarthost.config import (
    Layer,
    ProcessSettings,
    load,
    merge,
    nearest,
    parse_toml,
    process_settings,
    resolve,
)
from smarthost.errors import ConfigError

FULL = '''\
# a comment with [section] and key = "x" and """
[server]
hostname = "Mail.Example.org."   # trailing
contact = "Ops@Exämple.org"

[limits]
max_size = "25 MiB"
max_recipients = 10
lock = ["max_size"]

[delivery]
driver = "smtp"
require_tls = true

[aliases]
Root = "ops@example.org"
"www-data" = "web@example.org"

[upstream]
host = "smtp.example.org"
port = 465
encryption = "tls"
username = "mailer"
password = """C4nary"""
from = "no-reply@example.org"
pin = "SHA256:AA:BB:CC:DD:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB"
lock = true
'''


def no_files(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory", str(path))


def read(text: str) -> Layer:
    layer, problems = parse_toml("x.toml", text, no_files)
    assert problems == ()
    return layer


def mistakes(text: str) -> list[tuple[str, str]]:
    return [(str(error.origin), error.public) for error in parse_toml("x.toml", text, no_files)[1]]


def process(config: Path) -> ProcessSettings:
    return process_settings({"SMARTHOST_CONFIG": str(config), "SMARTHOST_DATA": "unused"})


def test_a_full_file_gives_canonical_values_with_their_lines() -> None:
    layer = read(FULL)
    plain = {name: (row.value, row.origin, row.locked) for name, row in layer.values.items()}
    assert plain == {
        "server.hostname": ("mail.example.org", "file x.toml, line 3", False),
        "server.contact": ("Ops@xn--exmple-cua.org", "file x.toml, line 4", False),
        "limits.max_size": (25 * 2**20, "file x.toml, line 7", True),
        "limits.max_recipients": (10, "file x.toml, line 8", False),
        "delivery.driver": ("smtp", "file x.toml, line 12", False),
        "delivery.require_tls": (True, "file x.toml, line 13", False),
        "aliases.root": ("ops@example.org", "file x.toml, line 16", False),
        "aliases.www-data": ("web@example.org", "file x.toml, line 17", False),
    }
    (server,) = layer.upstreams
    assert (server.name, server.default, server.locked, server.origin) == (
        "default",
        True,
        True,
        "file x.toml, line 19",
    )
    assert server.fields["pin"].value == "aabbccdd00112233445566778899aabbccddeeff00112233445566778899aabb"
    full = server.full()
    assert (full["host"], full["port"], full["encryption"]) == ("smtp.example.org", 465, "tls")
    assert (full["password"], full["from_address"], full["mechanism"]) == (
        "C4nary",
        "no-reply@example.org",
        "auto",
    )
    assert "C4nary" not in repr(layer)


def test_an_empty_file_says_nothing() -> None:
    assert read("") == Layer()


def test_every_mistake_of_a_file_is_told_at_once_with_its_line() -> None:
    text = """\
[limits]
max_size = "lots"
max_recipients = 0
max_sise = 1

[server]
contact = "nobody"
max_size = 3
hostname = "http://x"

[upstream]
port = 70000
encryption = "ssl"
hst = "x"
verify = "maybe"

[upstraem]
"""
    assert mistakes(text) == [
        (
            "file x.toml, line 2",
            'max_size must be a number of bytes, at least 1024, or text such as "50 MiB"',
        ),
        ("file x.toml, line 3", "max_recipients must be a whole number from 1 to 100000"),
        ("file x.toml, line 4", "unknown key max_sise; did you mean max_size?"),
        ("file x.toml, line 7", "contact must be an email address: 'nobody' is not an address: it has no @."),
        ("file x.toml, line 8", "unknown key max_size; it belongs in [limits] or [upstream]"),
        (
            "file x.toml, line 9",
            "hostname must be a host name or an IP address, without scheme, port or path",
        ),
        ("file x.toml, line 12", "port must be a whole number from 1 to 65535"),
        ("file x.toml, line 13", "encryption must be one of none, starttls, tls"),
        ("file x.toml, line 14", "unknown key hst; did you mean host?"),
        ("file x.toml, line 15", "verify must be true or false"),
        ("file x.toml, line 17", "unknown key upstraem; did you mean upstream?"),
    ]


@pytest.mark.parametrize(
    ("text", "origin", "words"),
    [
        ("a = \n", "file x.toml, line 1", "this is not TOML"),
        ("[limits]\nmax_size = 1\nmax_size = 2\n", "file x.toml, line 3", "this is not TOML"),
        ('x = "', "file x.toml", "this is not TOML"),
        ("limits = 3\n", "file x.toml, line 1", "limits must be a section"),
        ("upstream = 3\n", "file x.toml, line 1", "upstream must be a section"),
        ("upstream = [1]\n", "file x.toml, line 1", "upstream must be a section"),
        ("[[upstream]]\nhost = 'h'\n", "file x.toml, line 1", "needs a name"),
        ("[limits]\nlock = 3\n", "file x.toml, line 2", "lock must be true, or a list"),
        ("[limits]\nlock = ['max_sice']\n", "file x.toml, line 2", "did you mean max_size?"),
        ("[upstream]\npassword = 'a'\npassword_file = 'b'\n", "file x.toml, line 3", "both set"),
        ("[upstream]\npassword_file = 'none'\n", "file x.toml, line 2", "none cannot be read: No such file"),
        ('[upstream]\npassword = "a\\nb"\n', "file x.toml, line 2", "one line without NUL"),
        ('[upstream]\nusername = "a\\nb"\n', "file x.toml, line 2", "without control characters"),
        ("[upstream]\nname = \"a\\nb\"\nhost='h'\n", "file x.toml, line 2", "letters, digits"),
        ("[upstream]\nport = true\n", "file x.toml, line 2", "whole number"),
        ("[upstream]\npin = 'abc'\n", "file x.toml, line 2", "64 hexadecimal digits"),
        (
            "[upstream]\nhost = 'smtp.example.org:587'\n",
            "file x.toml, line 2",
            "without scheme, port or path",
        ),
        ("[upstream]\nhelo = '192.0.2.1'\n", "file x.toml, line 2", "address in brackets"),
        ("[server]\ndomain = '192.0.2.1'\n", "file x.toml, line 2", "not an address"),
        ("colour = 1\n", "file x.toml, line 1", "known here: server, limits"),
    ],
)
def test_a_mistake_is_told_in_words(text: str, origin: str, words: str) -> None:
    ((where, what),) = mistakes(text)
    assert where == origin
    assert words in what


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[server]\n# x\n\n  contact="a@b.test"', 4),
        ('server.contact = "a@b.test"', 1),
        ('server = { contact = "a@b.test" }', 1),
        ('[ "server" ]\n\'contact\' = "a@b.test"', 2),
        (
            '[aliases]\na = "a@b.test"\nb = \'b@b.test\' # [server]\n[server]\n"contact" = """\\\n a@b.test"""',
            5,
        ),
        ("[limits]\nlock = [ # ]\n 'max_size',\n \"max_hops\" ]\n[server]\ncontact = 'a@b.test'", 6),
        ("[server]\r\ndomain = 'x'\r\ncontact = 'a@b.test'\r\n", 3),
    ],
)
def test_the_line_of_a_key_is_found_however_it_is_written(text: str, line: int) -> None:
    assert read(text).values["server.contact"].origin == f"file x.toml, line {line}"


def test_several_servers_have_names_and_one_may_be_the_default() -> None:
    layer = read("[[upstream]]\nname='a'\nhost='h1'\n[[upstream]]\nname='b'\nhost='h2'\ndefault=true\n")
    settings = resolve([layer])
    assert [(row.name, row.default) for row in settings.upstreams] == [("a", False), ("b", True)]
    assert settings.upstreams[1].fields["host"].origin == "file x.toml, line 6"


def test_without_a_word_the_first_server_is_the_default() -> None:
    layer = read("[[upstream]]\nname='a'\nhost='h1'\n[[upstream]]\nname='b'\nhost='h2'\n")
    assert [row.default for row in resolve([layer]).upstreams] == [True, False]


def test_a_lock_at_the_head_of_a_file_locks_sections_or_everything() -> None:
    layer = read(
        "lock = ['limits', 'upstream']\n[limits]\nmax_hops=3\n[server]\ndomain='x'\n[upstream]\nhost='h'\n"
    )
    assert layer.values["limits.max_hops"].locked
    assert not layer.values["server.domain"].locked
    assert layer.upstreams[0].fields["host"].locked
    assert read("lock = true\n[server]\ndomain='x'\n").values["server.domain"].locked


def test_an_alias_may_be_called_lock() -> None:
    layer = read("[aliases]\nlock = 'a@b.test'\n")
    assert (layer.values["aliases.lock"].value, layer.values["aliases.lock"].locked) == ("a@b.test", False)
    assert read("[aliases]\nlock = true\nx = 'a@b.test'\n").values["aliases.x"].locked


def test_secrets_and_certificates_are_read_beside_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("C4nary\n")
    (tmp_path / "ca.pem").write_text("PEM\n")
    (tmp_path / "x.toml").write_text(
        "[upstream]\nhost='h'\nusername='u'\npassword_file='pw'\nca_file='ca.pem'\nlock=['password', 'ca_file']\n"
    )
    loaded = load(process(tmp_path / "x.toml"), {})
    assert loaded.problems == ()
    fields = loaded.files.upstreams[0].fields
    assert (fields["password"].value, fields["password"].secret, fields["password"].locked) == (
        "C4nary",
        True,
        True,
    )
    assert (fields["ca_pem"].value, fields["ca_pem"].locked) == ("PEM", True)


def test_a_folder_is_read_in_the_order_of_names_and_later_scalars_win(tmp_path: Path) -> None:
    (tmp_path / "20.toml").write_text("[limits]\nmax_hops = 20\n[upstream]\nport = 2525\n")
    (tmp_path / "10.toml").write_text(
        "[limits]\nmax_hops = 10\nmax_recipients = 5\nlock = true\n[upstream]\nhost = 'h'\n[aliases]\na='a@b.test'\n"
    )
    (tmp_path / "30.toml").write_text("[aliases]\nb = 'b@b.test'\n")
    (tmp_path / "40.conf").write_text("nonsense")
    (tmp_path / ".50.toml").write_text("nonsense")
    loaded = load(process(tmp_path), {})
    assert loaded.problems == ()
    settings = resolve([loaded.files])
    assert (settings["limits.max_hops"], settings["limits.max_recipients"]) == (20, 5)
    assert settings.values["limits.max_hops"].origin == "file 20.toml, line 2"
    assert settings.values["limits.max_hops"].locked
    assert settings.aliases == {"a": "a@b.test", "b": "b@b.test"}
    (server,) = settings.upstreams
    assert (server.full()["host"], server.full()["port"]) == ("h", 2525)


def test_lists_of_servers_are_appended_and_a_name_stands_once() -> None:
    one, two = read("[[upstream]]\nname='a'\nhost='h'\n"), read("[[upstream]]\nname='b'\nhost='h'\n")
    merged, problems = merge([one, two])
    assert ([row.name for row in merged.upstreams], problems) == (["a", "b"], ())
    _, problems = merge([one, two, one])
    assert "described before" in problems[0].public


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[limits]\nmax_hop = 1\n")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.toml").write_text("x = \n")
    origins = [error.origin for error in load(process(tmp_path), {}).problems]
    assert origins == ["file a.toml, line 2", "file b.toml", "file c.toml, line 1"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    (problem,) = load(process(tmp_path / "gone.toml"), {}).problems
    assert "gone.toml, which does not exist" in problem.public
    assert problem.origin == "variable SMARTHOST_CONFIG"


def test_no_file_at_all_is_fine() -> None:
    loaded = load(process_settings({}), {})
    assert (loaded.files, loaded.problems) == (Layer(), ())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("username = 'u'\nhost='h'", "password is missing"),
        ("password = 'p'\nhost='h'", "username is missing"),
        ("port = 25", "needs a host"),
        ("host = 'h'\nauth = 'plain'", "auth plain needs a user name"),
        ("host = 'h'\nauth = 'none'\nusername='u'\npassword='p'", "auth none"),
        ("host = 'h'\nclient_cert = 'x.toml'", "client_key is missing"),
    ],
)
def test_a_server_is_checked_as_a_whole(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "x.toml").write_text(f"[upstream]\n{body}\n")
    (problem,) = load(process(tmp_path / "x.toml"), {}).problems
    assert words in problem.public
    assert problem.origin == "file x.toml, line 1"


def test_a_password_from_a_variable_completes_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[upstream]\nhost='h'\nusername='u'\n")
    loaded = load(process(tmp_path / "x.toml"), {"SMARTHOST_UPSTREAM_PASSWORD": "p"})
    assert loaded.problems == ()


def test_the_nearest_key_is_near() -> None:
    assert nearest("max-size", ["max_size", "host"]) == "max_size"
    assert nearest("zzz", ["max_size", "host"]) is None


def test_problems_are_config_errors_with_field_and_origin() -> None:
    (problem,) = parse_toml("x.toml", "[limits]\nmax_hops = -1\n", no_files)[1]
    assert isinstance(problem, ConfigError)
    assert (problem.field, problem.origin) == ("limits.max_hops", "file x.toml, line 2")
