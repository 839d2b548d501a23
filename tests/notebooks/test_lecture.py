"""The table that leads from each line of the lecture to its cell leads somewhere, in order."""

import itertools
import re
import sys

import pytest
from scripts import ROOT

NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402

LABEL = re.compile(r"\((\d+\.\d+)\)")
TITLE = re.compile(r'"([^"]+)"')
HEADING = re.compile(r"^# #+ (?:\d+\. )?(.+)$", re.MULTILINE)
NUMBER = re.compile(r"(?:^|at length )\[?(\d+)\b")

SOURCES = {int(script.stem[:2]): script.read_text() for script in build.scripts()}
LINES = (NOTEBOOKS / "lecture.md").read_text().splitlines()
CELLS = [re.split(r"(?<!\\)\|", line)[1:3] for line in LINES if line.startswith("| ")]
ROWS = [
    (subject.strip(), place.strip().replace(r"\|", "|"))
    for subject, place in CELLS
    if subject.strip() not in ("subject", "---")
]


@pytest.mark.parametrize(("subject", "place"), ROWS, ids=[subject for subject, _ in ROWS])
def test_a_line_of_the_lecture_leads_to_its_cell(subject, place):
    numbers = [int(number) for number in NUMBER.findall(place)]
    assert numbers, "no notebook"
    headings = [title for number in numbers for title in HEADING.findall(SOURCES[number])]
    for title in TITLE.findall(place):
        assert title in headings
    for label in LABEL.findall(place):
        assert rf"\tag{{{label}}}" in SOURCES[int(label.split(".")[0])]
    assert TITLE.search(place) or LABEL.search(place) or "table" in place or "box" in place


def test_the_lines_are_in_the_order_of_the_notebooks():
    """But for what a notebook brings early or late, labels go up as one reads on."""
    first = [LABEL.search(place) for _, place in ROWS]
    order = [tuple(map(int, found[1].split("."))) for found in first if found]
    behind = [later for one, later in itertools.pairwise(order) if later < one]
    assert len(order) > 35
    assert behind == [(2, 1), (2, 2), (2, 9)]
