"""Variables, layers over each other, locks, and layers as text."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.config import (
    SETTINGS,
    UPSTREAM,
    Layer,
    UpstreamSource,
    Value,
    check_value,
    decode_layer,
    encode_layer,
    known_variables,
    parse_environment,
    parse_toml,
    resolve,
    stored_layer,
    warnings,
)
from smarthost.errors import ConfigError


def no_files(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory", str(path))


def file(text: str) -> Layer:
    layer, problems = parse_toml("x.toml", text, no_files)
    assert problems == ()
    return layer


def environment(**variables: str) -> Layer:
    layer, problems = parse_environment(variables, no_files)
    assert problems == ()
    return layer


def stored(**values: Any) -> Layer:
    rows = [(name.replace("__", "."), value, "Ada", "2026-11-21 10:00") for name, value in values.items()]
    layer, problems = stored_layer(rows)
    assert problems == ()
    return layer


def test_every_scalar_has_a_default_that_it_would_accept_itself() -> None:
    settings = resolve([])
    for row in SETTINGS:
        assert settings.values[row.name] == Value(row.default)
        assert row.kind.read(row.default) == row.default
    for field in UPSTREAM:
        assert field.kind.read(field.default) == field.default


def test_every_scalar_and_every_field_can_come_from_its_variable(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content\n")
    samples: dict[object, str] = {}
    for row in (*SETTINGS, *(field for field in UPSTREAM if field.key != "default")):
        for text in (
            "7",
            "true",
            "a@b.test",
            "log",
            "tls",
            "plain",
            "hold",
            "name",
            "ab" * 32,
            "x.test",
            "4096",
        ):
            try:
                row.kind.read(text)
            except ValueError:
                continue
            samples[row.variable] = text
            break
    for field in UPSTREAM:
        if field.file:
            samples[field.variable] = str(tmp_path / "f")
    layer, problems = parse_environment({str(k): v for k, v in samples.items()}, Path.read_text)
    assert problems == ()
    assert set(layer.values) == {row.name for row in SETTINGS}
    assert set(layer.upstreams[0].fields) == {field.field for field in UPSTREAM if field.key != "default"}


def test_variables_have_unique_names() -> None:
    names = known_variables()
    assert len(set(names)) == len(names)


def test_higher_layers_win_and_the_origin_says_which() -> None:
    low = file("[limits]\nmax_hops = 1\nmax_recipients = 1\nmax_header = 1024\n")
    middle = environment(SMARTHOST_LIMITS_MAX_HOPS="2", SMARTHOST_LIMITS_MAX_RECIPIENTS="2")
    high = stored(limits__max_hops=3)
    settings = resolve([low, middle, high])
    found = {name: (settings[name], settings.values[name].origin) for name in settings.values}
    assert found["limits.max_hops"] == (3, "set by Ada at 2026-11-21 10:00")
    assert found["limits.max_recipients"] == (2, "variable SMARTHOST_LIMITS_MAX_RECIPIENTS")
    assert found["limits.max_header"] == (1024, "file x.toml, line 4")
    assert found["limits.max_size"] == (50 * 2**20, "default")


def test_a_locked_value_holds_against_administrators_and_not_against_variables() -> None:
    low = file("[limits]\nlock = true\nmax_hops = 1\nmax_recipients = 1\n")
    settings = resolve(
        [
            low,
            environment(SMARTHOST_LIMITS_MAX_HOPS="2"),
            stored(limits__max_hops=3, limits__max_recipients=3),
        ]
    )
    assert (settings["limits.max_hops"], settings["limits.max_recipients"]) == (2, 1)
    assert settings.locked("limits.max_hops")
    assert settings.locked("limits.max_recipients")
    assert not settings.locked("limits.max_size")


@pytest.mark.parametrize("glob", ["limits.*", "*", "limits.max_hops", "*.max_hops"])
def test_a_glob_locks_even_what_nobody_set(glob: str) -> None:
    settings = resolve([stored(limits__max_hops=3)], lock=(glob,))
    assert settings["limits.max_hops"] == 50
    assert settings.locked("limits.max_hops")
    assert settings.values["limits.max_hops"].locked


def test_a_glob_locks_aliases_and_servers() -> None:
    settings = resolve([file("[upstream]\nhost='h'\n")], lock=("upstream.default.host", "aliases.*"))
    assert settings.locked("upstream.default.host")
    assert not settings.locked("upstream.default.port")
    assert not settings.locked("upstream.other.host")
    assert settings.locked("aliases.root")
    assert settings.upstreams[0].fields["host"].locked


def test_a_locked_server_is_locked_field_by_field() -> None:
    settings = resolve([file("[upstream]\nhost='h'\nport=25\nfrom='a@b.test'\nlock=['host', 'from']\n")])
    assert settings.locked("upstream.default.host")
    assert settings.locked("upstream.default.from")
    assert not settings.locked("upstream.default.port")


def test_the_log_driver_locks_every_server() -> None:
    settings = resolve([file("[delivery]\ndriver='log'\n")])
    assert settings.locked("upstream.any.host")
    assert not resolve([]).locked("upstream.any.host")


def test_variables_describe_the_default_server_of_the_file() -> None:
    low = file("[[upstream]]\nname='a'\nhost='h1'\n[[upstream]]\nname='b'\nhost='h2'\ndefault=true\n")
    settings = resolve([low, environment(SMARTHOST_UPSTREAM_HOST="h3", SMARTHOST_UPSTREAM_PORT="25")])
    assert [(row.name, row.full()["host"], row.full()["port"]) for row in settings.upstreams] == [
        ("a", "h1", 587),
        ("b", "h3", 25),
    ]
    assert settings.upstreams[1].fields["host"].origin == "variable SMARTHOST_UPSTREAM_HOST"


def test_variables_alone_describe_a_server() -> None:
    (row,) = resolve([environment(SMARTHOST_UPSTREAM_HOST="h", SMARTHOST_UPSTREAM_VERIFY="off")]).upstreams
    assert (row.name, row.default, row.full()["verify"]) == ("default", True, False)


def test_aliases_come_from_files_variables_and_administrators() -> None:
    settings = resolve(
        [
            file("[aliases]\nroot='a@b.test'\ncron='c@b.test'\n"),
            environment(SMARTHOST_ALIASES="Root=d@b.test, www-data=e@b.test"),
            stored(aliases__cron="f@b.test"),
        ]
    )
    assert settings.aliases == {"root": "d@b.test", "cron": "f@b.test", "www-data": "e@b.test"}


def test_a_secret_comes_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("C4nary\n")
    layer, problems = parse_environment(
        {"SMARTHOST_UPSTREAM_PASSWORD_FILE": str(tmp_path / "pw")}, lambda path: path.read_text()
    )
    assert problems == ()
    value = layer.upstreams[0].fields["password"]
    assert (value.value, value.secret, value.origin) == (
        "C4nary",
        True,
        "variable SMARTHOST_UPSTREAM_PASSWORD_FILE",
    )
    assert "C4nary" not in repr(layer)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SMARTHOST_LIMITS_MAX_HOPS": "many"}, "SMARTHOST_LIMITS_MAX_HOPS must be a whole number"),
        ({"SMARTHOST_UPSTREAM_PASSWORD_FILE": "/gone"}, "/gone cannot be read: No such file"),
        ({"SMARTHOST_UPSTREAM_CA_FILE": "/gone"}, "/gone cannot be read"),
        ({"SMARTHOST_UPSTREAM_PASSWORD": "a", "SMARTHOST_UPSTREAM_PASSWORD_FILE": "b"}, "both set"),
        ({"SMARTHOST_ALIASES": "root"}, "must be NAME=ADDRESS"),
        ({"SMARTHOST_ALIASES": "root=x"}, "must be an email address"),
        ({"SMARTHOST_LIMITS_MAX_SISE": "1"}, "did you mean SMARTHOST_LIMITS_MAX_SIZE?"),
        ({"SMARTHOST_UPSTREAM_HOTS": "1"}, "did you mean SMARTHOST_UPSTREAM_HOST?"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variables: dict[str, str], words: str) -> None:
    _, (problem,) = parse_environment(variables, no_files)
    assert words in problem.public
    assert str(problem.origin).removeprefix("variable ") in variables


def test_variables_that_are_not_ours_and_empty_ones_are_left_alone() -> None:
    assert (
        environment(
            SMARTHOST_PORT="tcp://10.0.0.1:80",
            SMARTHOST_SERVICE_HOST="10.0.0.1",
            SMARTHOST_TOKEN="x",
            SMARTHOST_LIMITS_MAX_HOPS="",
            PATH="/bin",
        )
        == Layer()
    )


def test_a_stored_value_that_is_not_understood_is_left_out_and_told() -> None:
    layer, problems = stored_layer([("limits.max_hops", "x", "Ada", "then"), ("gone.key", 1, "Ada", "then")])
    assert layer.values == {}
    assert [(error.field, error.origin) for error in problems] == [
        ("limits.max_hops", "set by Ada at then"),
        ("gone.key", "set by Ada at then"),
    ]


def test_a_value_from_a_page_is_checked_like_any_other() -> None:
    assert check_value("limits.max_size", "1 KiB") == 1024
    assert check_value("delivery.require_tls", "yes") is True
    assert check_value("aliases.root", "a@B.test") == "a@b.test"
    for name, raw in (("limits.max_size", 1), ("limits.max_sise", 1), ("aliases.", "a@b.test"), ("x", 1)):
        with pytest.raises(ConfigError):
            check_value(name, raw)


def test_a_layer_survives_the_store_but_its_secrets_stay_out() -> None:
    layer = file("[limits]\nmax_hops=3\nlock=true\n[upstream]\nhost='h'\nusername='u'\npassword='C4nary'\n")
    text = encode_layer(layer)
    assert "C4nary" not in text
    again = decode_layer(text)
    assert again.values == layer.values
    before, after = layer.upstreams[0].fields["password"], again.upstreams[0].fields["password"]
    assert (after.value, after.origin, after.secret) == ("", before.origin, True)
    assert resolve([again]).locked("limits.max_hops")
    with pytest.raises(ConfigError):
        decode_layer("{")


def test_what_works_but_is_unsafe_is_warned_of() -> None:
    layer = file(
        "[delivery]\nunknown_retry_after = 1\n"
        "[[upstream]]\nname='a'\nhost='h'\nencryption='none'\n[[upstream]]\nname='b'\nhost='h'\nverify=false\n"
    )
    found = warnings(resolve([layer]))
    assert [any(word in text for text in found) for word in ("below 900 s", "in clear", "not verified")] == [
        True
    ] * 3
    assert warnings(resolve([])) == ()


layers = st.lists(
    st.dictionaries(
        st.sampled_from(["limits.max_hops", "limits.max_recipients", "aliases.x"]),
        st.tuples(st.integers(1, 99), st.booleans()),
    ),
    max_size=4,
)


@given(layers, st.booleans())
def test_the_effective_value_is_the_highest_that_no_lock_shuts_out(
    rows: list[dict[str, tuple[int, bool]]], last_is_stored: bool
) -> None:
    made = [
        Layer(
            values={name: Value(value, f"layer {n}", locked) for name, (value, locked) in row.items()},
            stored=last_is_stored and n == len(rows) - 1,
        )
        for n, row in enumerate(rows)
    ]
    settings = resolve(made)
    for name in ("limits.max_hops", "limits.max_recipients", "aliases.x"):
        said = [(n, *row[name]) for n, row in enumerate(rows) if name in row]
        below = [entry for entry in said if not made[entry[0]].stored]
        wins = below if any(locked for _, _, locked in below) else said
        if wins:
            n, value, _ = wins[-1]
            assert (settings.values[name].value, settings.values[name].origin) == (value, f"layer {n}")
            assert settings.values[name].locked == any(locked for _, _, locked in wins)


def test_a_server_knows_its_defaults() -> None:
    row = UpstreamSource(name="x", origin="o", fields={})
    assert row.full()["port"] == 587
    assert "default" not in row.full()
    assert not row.locked
