"""Lines of keys in whatever TOML the standard parser accepts."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from smarthost.config._lines import key_lines

values = st.sampled_from(
    [
        "1",
        '"a = [1] # no"',
        "'[x]'",
        '"""\nx = 1\n[y]\n"""',
        "'''\n[[z]]\n'''",
        '""""quoted""""',
        "[\n 1, # ]\n 2,\n]",
        '{ a = 1, b = "}" }',
        '[ "]", { c = [ "#" ] } ]',
        "[\n[1],\n['u'],\n[['t']]\n]",
        "1979-05-27T07:32:00Z",
        '"\\"" # = "',
        "true # [t]",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["", "[t%d]", "[[u]]", "# c", "\n"]), values), max_size=10))
def test_every_key_is_found_on_its_line(rows: list[tuple[str, str]]) -> None:
    text, expected, line, section, items = "", {}, 1, (), -1
    for n, (head, value) in enumerate(rows):
        if head:
            text += (head % n if "%" in head else head) + "\n"
            line += head.count("\n") + 1
        if head.startswith("[["):
            items += 1
            section = ("u", items)
        elif head.startswith("["):
            section = (f"t{n}",)
        text += f"  k{n} = {value}\n"
        expected[*section, f"k{n}"] = line
        line += value.count("\n") + 1
    tomllib.loads(text)
    found = {path: at for path, at in key_lines(text).items() if str(path[-1]).startswith("k")}
    assert found == expected
