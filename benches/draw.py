"""Draws the tables of a report of scripts/bench as bars: how much of Redis's throughput each server has, and how much of Redis's
CPU. The tables are those below the last heading of a run, so that a picture never shows another figure than its page.

Usage: draw.py [--check] REPORT. The pictures are put beside the report. --check writes nothing, and fails where a picture is
not that of the tables."""

import argparse
import pathlib
import re
import sys
from xml.sax.saxutils import escape

# A table of compare.py: its title, and what stands in the columns of the ratios.
TITLE = re.compile(r"\*\*(.+)\*\*")
RUN = re.compile(r"#{2,3} \d{4}-\d\d-\d\d, commit [0-9a-f]+")
COLUMNS = {"throughput": 2, "cpu": 4}
WORDS = {
    "throughput": "Requests a second, of Redis's (longer is better)",
    "cpu": "CPU of the server for each command, of Redis's (shorter is better)",
}

# Redis itself is 1 in every table, and is the line that the bars are held against.
BASE = "redis"
COLOURS = {"hearthside": "#c2571a", "twemproxy": "#7a8794", "haproxy": "#a9b4be", "predixy": "#5c6b78"}
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #222 }
text.head { font-weight: 600; font-size: 14px }
line { stroke: #222; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } line { stroke: #ddd } }
"""

# In pixels. A bar that would be longer than there is room for ends there, and has its figure like every other one.
LEFT, ROOM, RIGHT, BAR, GAP, HEAD = 350, 420, 60, 12, 12, 56
FIGURE = 32


def tables(text):
    """Of each table of the last run the title and the rows: cells by the name of the server."""
    runs = list(RUN.finditer(text))
    if not runs:
        raise ValueError("the report has no heading with a date and a commit")
    found, title = [], None
    for line in text[runs[-1].end():].splitlines():
        if line.startswith("## "):
            break
        if told := TITLE.fullmatch(line):
            title = told[1]
            found.append((title, {}))
        elif title and line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            # The first two lines of a table are its head, whose first cell is empty.
            if cells[0].strip("-"):
                found[-1][1][cells[0]] = cells
        elif line.strip():
            title = None
    return [(title, rows) for title, rows in found if rows]


def bars(title, rows, column, top, scale):
    """The bars of one table, and where they end."""
    one = LEFT + scale
    parts = [f'<text x="{LEFT - 10}" y="{top + BAR - 1}" text-anchor="end">{escape(title)}</text>']
    for name, cells in rows.items():
        if name not in COLOURS:
            continue
        ratio = float(cells[column])
        width = min(ratio * scale, ROOM)
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.0f}" height="{BAR}" fill="{COLOURS[name]}"/>')
        beside = LEFT + width + 5
        # The line of Redis is not drawn through a figure.
        if one - FIGURE < beside < one:
            beside = one + 5
        parts.append(f'<text x="{beside:.0f}" y="{top + BAR - 1}">{ratio:.2f}</text>')
        top += BAR + 3
    return parts, top + GAP


def legend(names):
    parts, x = [], LEFT
    for name in names:
        parts.append(f'<rect x="{x}" y="32" width="{BAR}" height="{BAR}" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + BAR + 5}" y="43">{name}</text>')
        x += 110
    return parts


def picture(figure, found):
    """One picture of all tables."""
    # A length for each ratio so that 1, which is Redis, stands at the same place in all bars.
    scale = ROOM / (4.5 if figure == "throughput" else 2.5)
    parts, top = [], HEAD
    for title, rows in found:
        more, top = bars(title, rows, COLUMNS[figure], top, scale)
        parts += more
    shown = [name for name in COLOURS if any(name in rows for _, rows in found)]
    one, width = LEFT + scale, LEFT + ROOM + RIGHT
    head = WORDS[figure]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + 10}" viewBox="0 0 {width} {top + 10}" role="img">',
        f"<title>{head}</title><style>{STYLE}</style>",
        f'<text class="head" x="10" y="20">{head}</text>',
        *legend(shown),
        f'<line x1="{one:.0f}" y1="{HEAD - 6}" x2="{one:.0f}" y2="{top}"/>',
        f'<text x="{one:.0f}" y="{top + 6}" text-anchor="middle">Redis</text>',
        *parts,
        "</svg>",
    ]) + "\n"


def draw(report):
    """The pictures of a report, by the file that each belongs into."""
    compared = [(title, rows) for title, rows in tables(report.read_text()) if BASE in rows and "hearthside" in rows]
    return {report.with_name(f"{report.stem}-{figure}.svg"): picture(figure, compared) for figure in COLUMNS}


def write(report):
    """Draws the pictures of a report; their files."""
    pictures = draw(report)
    for file, text in pictures.items():
        file.write_text(text)
    return list(pictures)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("report", type=pathlib.Path)
    arguments = parser.parse_args()
    if not arguments.check:
        write(arguments.report)
        return
    for file, text in draw(arguments.report).items():
        if not file.exists() or file.read_text() != text:
            sys.exit(f"{file} is not the picture of the tables: python3 benches/draw.py {arguments.report}")


if __name__ == "__main__":
    main()
