#!/usr/bin/python3
"""engine_table_test.py --results notices a named test that did not run: ctest
runs a small project, and tables name its tests.
"""
# ctest: release-only

import pathlib
import subprocess
import sys
import tempfile

import engine_table

CHECK = pathlib.Path(__file__).resolve().parent / "engine_table_test.py"

# As the tests of this project skip themselves: a script, and GTEST_SKIP.
PROJECT = """
cmake_minimum_required(VERSION 3.21)
project(results NONE)
enable_testing()
add_test(NAME a_test.Runs COMMAND true)
add_test(NAME a_test.Leaves COMMAND sh -c "exit 77")
set_tests_properties(a_test.Leaves PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME a_test.Skips COMMAND echo "[  SKIPPED ] a_test")
set_tests_properties(a_test.Skips PROPERTIES
  SKIP_REGULAR_EXPRESSION "\\\\[  SKIPPED \\\\]")
add_test(NAME a_test.Each/1 COMMAND true)
add_test(NAME a_test.Each/2 COMMAND sh -c "exit 77")
set_tests_properties(a_test.Each/2 PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME a_test.Off COMMAND true)
set_tests_properties(a_test.Off PROPERTIES DISABLED ON)
"""

# What is named, and what of it has to be complained about; ctest's own words
# may follow.
EXPECTED = {
    "a_test.Runs": [],
    "a_test.Leaves": ["a_test.Leaves did not run: "],
    "a_test.Skips": ["a_test.Skips did not run: "],
    "a_test.Off": ["a_test.Off is disabled"],
    "a_test.Gone": ["no test is called a_test.Gone"],
    # One that runs does not speak for the other.
    "a_test.Each/*": ["a_test.Each/2 did not run: "],
}


def main():
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "CMakeLists.txt").write_text(PROJECT, encoding="utf-8")
        results = folder / "results.xml"
        for command in (["cmake", "-S", folder, "-B", folder / "build"],
                        ["ctest", "--test-dir", folder / "build",
                         "--output-junit", results]):
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        readme = folder / "README.md"
        for pattern, wanted in EXPECTED.items():
            readme.write_text(
                f"{engine_table.HEADING}\n\n"
                f"| A1 | behaviour | `A` (dio/a.h) | `{pattern}` |\n",
                encoding="utf-8")
            done = subprocess.run(
                [CHECK, "--readme", readme, "--results", results],
                capture_output=True, text=True, check=False)
            told = [line.removeprefix(f"{readme}:3: A1: ")
                    for line in done.stdout.splitlines()[:-1]]
            if (len(told) != len(wanted) or
                    not all(map(str.startswith, told, wanted)) or
                    done.returncode != (1 if wanted else 0)):
                print(f"{pattern}: expected {wanted}, status "
                      f"{done.returncode}, got: {done.stdout}{done.stderr}")
                failures += 1
    print(f"{len(EXPECTED)} names, {failures} of them judged wrongly")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
