#!/usr/bin/python3
"""Tests the source itself: format, size, words, layers, and that nothing is
left out of a list. Prints one line for each violation, path:line: message.

With --fix it formats the sources and writes the list in dio.mk instead.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 70

LAYERS = ("dio", "env", "plugin")
CODE = LAYERS + ("tests", "tools")

# Put together here so that this file does not contain them itself.
BANNED_ANYWHERE = ["TO" "DO", "FIX" "ME", "XX" "X", "NO" "LINT", "DIS" "ABLED_"]
BANNED_IN_PRODUCT = [r"abort\s*\(", r"assert\s*\(", r"throw\b"]
MACHINE_PATHS = [f"/{top}/" for top in ("work", "home", "root")]

# Which folders a folder may include from. A file of env/ named rocksdb_* is
# its upper half: it alone knows RocksDB, and the lower half does not know it.
MAY_INCLUDE = {
    "dio": ("dio/",),
    "env": ("dio/", "env/"),
    "env/rocksdb": ("dio/", "env/", "rocksdb/"),
    "plugin": ("dio/", "env/", "plugin/", "rocksdb/"),
    "tools": ("dio/", "env/", "tools/"),
    "tools/rocksdb": ("dio/", "env/", "plugin/", "tools/", "rocksdb/"),
    "tests": ("dio/", "env/", "tools/", "tests/"),
    "tests/rocksdb": ("dio/", "env/", "plugin/", "tools/", "tests/",
                      "rocksdb/"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')

violations = []


def complain(path, line, message):
    violations.append(f"{path}:{line}: {message}")


def tracked_files():
    """Paths of the project's files; without git, all but the build trees."""
    git = ["git", "-C", str(ROOT)]
    try:
        listing = subprocess.run(
            git + ["ls-files", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        listing = []
        for folder, folders, names in os.walk(ROOT):
            folders[:] = [f for f in folders
                          if f not in (".git", "build", "__pycache__")]
            listing += [os.path.relpath(os.path.join(folder, n), ROOT)
                        for n in names]
    return sorted(p for p in listing if (ROOT / p).is_file())


def read(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def blank(match):
    """What replaces a comment or a literal: as many lines, no text."""
    return "\n" * match.group(0).count("\n") or " "


LITERALS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*\""""
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""", re.S)
DIRECTIVES = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)


def code_only(text):
    return LITERALS.sub(blank, text)


def layer_of(path):
    """The key of MAY_INCLUDE that `path` falls under."""
    folder, name = path.split("/")[0], path.rsplit("/", 1)[-1]
    with_rocksdb = name.startswith("rocksdb_") or (
        folder == "tests" and name.startswith("plugin_"))
    key = folder + "/rocksdb"
    return key if with_rocksdb and key in MAY_INCLUDE else folder


def includes(path):
    """(line, included path) for each include of a folder's file."""
    for number, line in enumerate(read(path).splitlines(), 1):
        match = INCLUDE.match(line)
        if match and "/" in match.group(2):
            yield number, match.group(2)


def check_includes(path):
    layer = layer_of(path)
    allowed = MAY_INCLUDE[layer]
    project = {prefix for rule in MAY_INCLUDE.values() for prefix in rule}
    for number, target in includes(path):
        prefix = target.split("/")[0] + "/"
        upper_half = target.startswith("env/rocksdb_")
        if prefix in project and prefix not in allowed:
            complain(path, number, f"{layer} must not include {target}")
        elif upper_half and "rocksdb/" not in allowed:
            complain(path, number, f"{layer} must not include {target}")


def check_guard(path):
    guard = "DIOFS_" + re.sub(r"[/.]", "_", path).upper() + "_"
    lines = read(path).splitlines()
    directives = [line for line in lines if line.startswith("#")]
    wanted = [f"#ifndef {guard}", f"#define {guard}"]
    if directives[:2] != wanted or not lines or (
            lines[-1] != f"#endif  // {guard}"):
        complain(path, 1, f"the header guard is not {guard}")


def check_words(path, text, code):
    """Words that promise instead of doing, and calls that end the process."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in BANNED_ANYWHERE:
            if re.search(rf"\b{word}" + ("" if word[-1] == "_" else r"\b"),
                         line):
                complain(path, number, f"banned word {word}")
    if path.split("/")[0] not in LAYERS + ("tools",):
        return
    for number, line in enumerate(code.splitlines(), 1):
        for pattern in BANNED_IN_PRODUCT:
            match = re.search(rf"\b{pattern}", line)
            if match:
                complain(path, number, f"banned in the product: {match[0]}")


def check_functions(path, code):
    """Measures function bodies by their braces.

    A brace opens a function when nothing around it is one and the text before
    it, back to the last statement, has a parenthesis.
    """
    code = DIRECTIVES.sub(blank, code)
    line, head, opened = 1, "", []
    for char in code:
        if char == "{":
            inside = any(is_function for is_function, _ in opened)
            head = re.sub(r"\balignas\([^()]*\)", "", head)
            opened.append((not inside and "(" in head, line))
        elif char == "}" and opened:
            is_function, first = opened.pop()
            length = line - first + 1
            if is_function and length > MAX_FUNCTION_LINES:
                complain(path, first, f"a function of {length} lines, more "
                                      f"than {MAX_FUNCTION_LINES}")
        head = "" if char in ";{}" else head + char
        line += char == "\n"


def check_code(path):
    text = read(path)
    code = code_only(text)
    count = text.count("\n")
    if count > MAX_FILE_LINES:
        complain(path, count, f"{count} lines, more than {MAX_FILE_LINES}")
    check_words(path, text, code)
    check_functions(path, code)
    check_includes(path)
    if path.endswith(".h"):
        check_guard(path)


def check_tested(files):
    """Each source of dio/ and env/ has a test of its name, or one that
    includes its header."""
    tested = {target for path in files if path.startswith("tests/")
              and path.endswith((".cc", ".h")) for _, target in includes(path)}
    for path in files:
        if not re.match(r"(dio|env)/[^/]*\.cc$", path):
            continue
        # A class in several files: volume_names.cc belongs to volume.h.
        stem = path[:-3]
        while f"{stem}.h" not in files and "_" in stem:
            stem = stem.rpartition("_")[0]
        name = pathlib.PurePath(stem).name
        if f"{stem}.h" not in tested and f"tests/{name}_test.cc" not in files:
            complain(path, 1, f"no test includes {stem}.h or is called "
                              f"{name}_test.cc")


def plugin_sources(files):
    """The line of dio.mk that tells RocksDB's own build what to compile."""
    sources = [p for p in files if re.match(r"(dio|env|plugin)/[^/]*\.cc$", p)]
    return " ".join(["dio_SOURCES", "=", *sources])


def check_plugin_sources(files):
    wanted = plugin_sources(files)
    for number, line in enumerate(read("dio.mk").splitlines(), 1):
        if line.startswith("dio_SOURCES"):
            if line != wanted:
                complain("dio.mk", number, "is not the list of sources; "
                                           "tests/tidy_test.py --fix writes it")
            return
    complain("dio.mk", 1, "has no dio_SOURCES")


def write_plugin_sources(files):
    text = re.sub(r"^dio_SOURCES.*$", plugin_sources(files), read("dio.mk"),
                  flags=re.M)
    (ROOT / "dio.mk").write_text(text, encoding="utf-8")


def check_script(path):
    text = read(path)
    if not os.access(ROOT / path, os.X_OK):
        complain(path, 1, "a script that is not executable")
    for number, line in enumerate(text.splitlines(), 1):
        for word in BANNED_ANYWHERE:
            if re.search(rf"\b{word}\b", line):
                complain(path, number, f"banned word {word}")


def is_script(path):
    with open(ROOT / path, "rb") as file:
        return file.read(2) == b"#!" or path.endswith((".sh", "_test.py"))


def check_machine_paths(path):
    for number, line in enumerate(read(path).splitlines(), 1):
        for prefix in MACHINE_PATHS:
            if re.search(rf"(?<![\w.}}]){prefix}", line):
                complain(path, number, f"names a path of one machine: {prefix}")


def clang_format(sources, *arguments):
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not program:
        complain("tests/tidy_test.py", 1, "clang-format is not installed")
        return ""
    return subprocess.run([program, *arguments, *sources], cwd=ROOT, text=True,
                          capture_output=True, check=False).stderr


def check_format(sources):
    output = clang_format(sources, "--dry-run", "-Werror")
    for path, line in sorted(set(re.findall(r"^([^:\s]+):(\d+):", output,
                                            re.M))):
        complain(path, line, "clang-format would change this")


def main():
    files = tracked_files()
    sources = [p for p in files if p.endswith((".cc", ".h"))
               and p.split("/")[0] in CODE]
    if "--fix" in sys.argv[1:]:
        clang_format(sources, "-i")
        write_plugin_sources(files)
        return 0
    if not sources:
        complain(".", 1, "no source file was found")

    check_format(sources)
    for path in sources:
        check_code(path)
    for path in files:
        check_machine_paths(path)
        if is_script(path):
            check_script(path)
    check_tested(files)
    check_plugin_sources(files)

    for violation in violations:
        print(violation)
    print(f"{len(files)} files checked, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
