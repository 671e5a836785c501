#!/usr/bin/python3
"""Compares the table of the engine in dio/README.md with the sources, with the
tests of the build, and with the patches in tests/mutations/. Prints one line
for each contradiction, path:line: message.

  --readme FILE   the page with the table
  --build DIR     the build whose tests are meant; under ctest its own
  --results FILE  instead of all that: has each named test run? FILE is what
                  ctest --output-junit wrote. Says nothing if they have.
"""
# Sanitizer builds leave tests out, and the table may name them.
# ctest: release-only

import argparse
import collections
import os
import pathlib
import re
import sys

import engine_table

ROOT = pathlib.Path(__file__).resolve().parent.parent

violations = []


def complain(where, message):
    violations.append(f"{where}: {message}")


def check_ids(readme, rows):
    seen = collections.Counter(row.id for row in rows)
    for row in rows:
        if row.id not in engine_table.IDS:
            complain(f"{readme}:{row.line}", f"{row.id} is not a row's id")
        elif seen[row.id] > 1:
            complain(f"{readme}:{row.line}", f"{row.id} is there "
                                             f"{seen[row.id]} times")
        if not row.behaviour:
            complain(f"{readme}:{row.line}", f"{row.id} says nothing")
    for wanted in engine_table.IDS:
        if wanted not in seen:
            complain(readme, f"{wanted} is missing")


def check_where(place, row):
    """Each name has to occur in its file, Class::Function by both parts."""
    if not row.where:
        complain(place, f"{row.id} does not say where")
    for name, path in row.where:
        if not path or not (ROOT / path).is_file():
            complain(place, f"{row.id}: no file ({path}) for {name}")
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        for part in name.removesuffix("()").split("::"):
            if not re.search(rf"\b{re.escape(part)}\b", text):
                complain(place, f"{row.id}: no {part} of {name} in {path}")


def check_tests(place, row, tests):
    if not row.tests:
        complain(place, f"{row.id} names no test")
    for pattern in row.tests:
        # So that each test has to be seen to fail; /* are a test's parameters.
        if re.search(r"(?<!/)\*|\*.", pattern):
            complain(place, f"{row.id}: {pattern} names more than one test")
        found = engine_table.matching(tests, pattern)
        if not found:
            complain(place, f"{row.id}: no test is called {pattern}")
        for test in found:
            if test.idle:
                complain(place, f"{row.id}: {test.name} {test.idle}")
            if test.name.endswith("_NOT_BUILT"):
                complain(place, f"{row.id}: {test.name}")


def check_patches(rows):
    patches = {path.stem for path in engine_table.MUTATIONS.glob("*.patch")}
    for row in rows:
        if row.id not in patches:
            complain(f"tests/mutations/{row.id}.patch", "is missing")
        patches -= {path.stem for path in engine_table.patches(row.id)}
    for name in sorted(patches):
        complain(f"tests/mutations/{name}.patch", "has no row in the table")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readme", type=pathlib.Path,
                        default=ROOT / "dio" / "README.md")
    parser.add_argument("--build", type=pathlib.Path,
                        default=os.environ.get("DIOFS_BUILD_DIR"))
    parser.add_argument("--results", type=pathlib.Path)
    options = parser.parse_args()
    if options.build is None and options.results is None:
        parser.error("--build or --results is needed outside ctest")

    rows = engine_table.read_rows(options.readme)
    if options.results is None:
        tests = engine_table.registered_tests(options.build)
        check_ids(options.readme, rows)
        check_patches(rows)
    else:
        tests = engine_table.finished_tests(options.results)
    for row in rows:
        place = f"{options.readme}:{row.line}"
        if options.results is None:
            check_where(place, row)
        check_tests(place, row, tests)

    for violation in violations:
        print(violation)
    if violations or options.results is None:
        print(f"{len(rows)} rows, {len(tests)} tests, "
              f"{len(violations)} contradictions")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
