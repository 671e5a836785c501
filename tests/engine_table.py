"""The table of dio/README.md, "The seed, row by row", and the tests of a build.

Shared by engine_table_test.py and by mutations/run.
"""

import collections
import json
import pathlib
import re
import subprocess
import xml.etree.ElementTree

MUTATIONS = pathlib.Path(__file__).resolve().parent / "mutations"
HEADING = "## The seed, row by row"
COLUMNS = ["id", "behaviour", "where", "test"]

# The rows that have to be there: parts of the old engine, its defects, and the
# ideas of its successor.
IDS = ([f"A{n}" for n in range(1, 47)] + [f"D{n}" for n in range(1, 13)] +
       [f"I{n}" for n in range(1, 7)])

# where: (name, file) pairs; tests: patterns of ctest names.
Row = collections.namedtuple("Row", "id behaviour where tests line")
# idle: why it does not run; empty where it does.
Test = collections.namedtuple("Test", "name idle")


def patches(row_id):
    """The patches that break this row: ID.patch, ID-b.patch, ID-c.patch, …"""
    return ([path for path in [MUTATIONS / f"{row_id}.patch"]
             if path.is_file()] +
            sorted(MUTATIONS.glob(f"{row_id}-[b-z].patch")))


def cells(line):
    """The cells of one line of a table; \\| is a bar inside a cell."""
    parts = re.split(r"(?<!\\)\|", line.strip())
    return [part.strip().replace("\\|", "|") for part in parts[1:-1]]


def parse_where(cell):
    """`A::B`, `A::C` (dio/a.cc), `D` (dio/d.h): each name with its file."""
    pairs, names = [], []
    for name, path in re.findall(r"`([^`]+)`|\(([^()`\s]+)\)", cell):
        if name:
            names.append(name)
        else:
            pairs += [(n, path) for n in names]
            names = []
    return pairs + [(n, "") for n in names]


def read_rows(readme):
    """The rows of the table in the file `readme`, in its order."""
    rows, inside = [], False
    lines = readme.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("## "):
            inside = line == HEADING
        elif inside and line.startswith("|"):
            row = cells(line)
            if row == COLUMNS or set("".join(row)) <= set("-:"):
                continue
            row += [""] * (len(COLUMNS) - len(row))
            rows.append(Row(row[0], row[1], parse_where(row[2]),
                            re.findall(r"`([^`]+)`", row[3]), number))
    return rows


def registered_tests(build):
    """The tests that ctest knows in the build directory `build`."""
    listing = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build,
                             capture_output=True, text=True, check=True)
    tests = []
    for test in json.loads(listing.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        tests.append(Test(test["name"],
                          "is disabled" if properties.get("DISABLED") else ""))
    return tests


def finished_tests(results):
    """The tests of a run, from the file that ctest --output-junit wrote."""
    tests = []
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        status, skipped = case.get("status"), case.find("skipped")
        idle = {"run": "", "fail": "", "disabled": "is disabled"}.get(
            status, f"did not run: {status}")
        if skipped is not None:
            idle = f"did not run: {skipped.get('message')}"
        tests.append(Test(case.get("name"), idle))
    return tests


def matching(tests, pattern):
    """The tests whose names match; only * is special, and matches any text."""
    expression = re.compile(regex([pattern]))
    return [test for test in tests if expression.search(test.name)]


def regex(patterns):
    """What `ctest -R` takes for any of the patterns."""
    quoted = [re.sub(r"([.+?^$()\[\]{}|\\])", r"\\\1", pattern)
              .replace("*", ".*") for pattern in patterns]
    return "^(" + "|".join(quoted) + ")$"
