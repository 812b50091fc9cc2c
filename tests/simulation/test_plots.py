from xml.etree import ElementTree

from tomovault.simulation.svg_plot import draw_svg
from tomovault.simulation.text_plot import draw_text

NS = "{http://www.w3.org/2000/svg}"


def series(**changes):
    return {
        "area": "a<b",
        "quota": 8 * 10**12,
        "high": 0.5,
        "low": 0.25,
        "disk": [0.25, 0.5, 0.75, 0.25],
        "kept": [0.25, 0.5, 0.5, 0.25],
        "without": [0.25, 0.5, 0.75, 1.0],
        "below_high_from_day": 3,
        "unmet_bytes": 0,
        "full_on_day_without": 3,
        "unmet_bytes_without": 10**12,
        **changes,
    }


def test_a_panel_for_each_area_with_its_marks_and_what_is_seen():
    tree = ElementTree.fromstring(draw_svg([series(), series(area="b", below_high_from_day=None)], "A year", "It is."))
    texts = [t.text for t in tree.iter(f"{NS}text")]
    assert {"A year", "It is.", "a<b", "b"} <= set(texts)
    assert "With the policy: below its high mark of 50 % from day 3 on" in texts
    assert "With the policy: not held below its high mark of 50 %" in texts
    assert texts.count("With no policy: full on day 3, no room for 1 TB") == 2
    assert len(list(tree.iter(f"{NS}polygon"))) == 4, "what stays, and what is in quarantine, of each area"


def test_the_curve_stands_where_the_fill_is():
    tree = ElementTree.fromstring(draw_svg([series(high=0.25, without=[0.0, 0.0, 1.0, 1.0])], "t", "s"))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in tree.iter(f"{NS}polyline")
    ]
    last = lines[-1]
    top, bottom = min(y for _, y in last), max(y for _, y in last)
    levels = {line[0][1] for line in lines if len(line) == 2 and line[0][1] == line[1][1]}
    assert {top, bottom, bottom - (bottom - top) / 4} <= levels
    assert [y for _, y in last] == [bottom, bottom, top, top]


def test_a_chart_on_a_terminal():
    text = draw_text([series()], columns=12, rows=4)
    assert text.splitlines()[2:] == [
        "a<b, 8 TB, high mark 50 %",
        "100% │         ···│",
        "     │      ███   │",
        "     │┄┄┄██████┄┄┄│",
        "  0% │████████████│",
        "     └day 0──day 4┘",
    ]


def test_a_column_is_the_highest_of_its_days():
    text = draw_text([series(disk=[0.0, 1.0, 0.0, 0.0], without=[0.0] * 4)], columns=2, rows=1)
    assert "│█·│" in text
