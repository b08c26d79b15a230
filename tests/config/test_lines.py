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
def test_every_top_key_is_found_on_its_line(rows: list[tuple[str, str]]) -> None:
    text, expected, line = "", [], 1
    for n, (head, value) in enumerate(rows):
        if head:
            head = head % n if "%" in head else head
            text += head + "\n"
            line += head.count("\n") + 1
        text += f"  k{n} = {value}\n"
        expected.append((f"k{n}", line))
        line += value.count("\n") + 1
    tomllib.loads(text)
    lines = key_lines(text)
    for key, at in expected:
        assert {number for path, number in lines.items() if path[-1] == key} == {at}
