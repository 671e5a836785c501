#!/usr/bin/python3
"""README.md says nothing that does not work: its commands are run, its program
is compiled, its options are those there are.

They run in a folder that looks like the top of the source tree. The device of
the README becomes a loop device, or an image file where there is none to be
had; nothing else is changed.
"""
# ctest: release-only
# ctest: TIMEOUT=600

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get(
    "DIOFS_SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent))
BUILD = pathlib.Path(os.environ.get("DIOFS_BUILD_DIR", ROOT / "build/release"))
README = ROOT / "README.md"

DEVICE = "/dev/nvme0n1"
DEVICE_BYTES = 512 << 20

# What takes long, or would run this very test. These are what a test tree is
# made with; here they only have to be there.
NOT_RUN = re.compile(r"\./tools/(quickstart|test|setup)$|"
                     r"tools/compare( --\w+=\d+)*$|"
                     r"cmake (--build )?--preset release$")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)")

failures = []


def check(good, message):
    if not good:
        failures.append(message)
        print(f"FAILED: {message}", file=sys.stderr)


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False,
                          errors="replace", **options)


def loop_device(backing):
    """(path, descriptor) of a loop device that is gone when the descriptor and
    all others are closed; (backing, None) where there is none to be had."""
    done = run(["losetup", "--find", "--show", "--direct-io=on", backing])
    if done.returncode:
        return str(backing), None
    path = done.stdout.strip()
    descriptor = os.open(path, os.O_RDONLY)
    run(["losetup", "--detach", path])
    return path, descriptor


def check_program(line):
    program = line.split()[0]
    if program == "cmake":
        presets = run(["cmake", "--list-presets"], cwd=ROOT)
        check('"release"' in presets.stdout, "there is no preset release")
    else:
        check(os.access(ROOT / program, os.X_OK), f"{program} is no program")
        check(run([ROOT / program, "--help"]).returncode == 0,
              f"{program} --help fails")


def run_commands(text, folder, device):
    lines = []
    for line in text.splitlines():
        if NOT_RUN.match(line.strip()):
            check_program(line)
        else:
            lines.append(line)
    script = "\n".join(lines).replace(DEVICE, device)
    if not script.strip():
        return
    done = run(["bash", "-euxo", "pipefail", "-c", script], cwd=folder,
               stdin=subprocess.DEVNULL)
    print("\n".join(line[:200] for line in done.stdout.splitlines()
                    if line.startswith("+") or "micros/op" in line), flush=True)
    check(done.returncode == 0,
          f"status {done.returncode} of\n{script}\n{done.stdout[-3000:]}")


def check_options(text):
    """The table of options has each that the plugin knows, and no other."""
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    done = run(["ldb", "--db=/x", "--fs_uri=dio:///x?no_such_option=1", "scan"],
               env=dict(os.environ, LD_PRELOAD=BUILD / "librocksdb_dio.so"))
    known = set(re.findall(r"(?:the options are|,) (\w+)=", done.stdout))
    check(known, f"the plugin did not list its options: {done.stdout}")
    check(listed == known, f"options in the README: {sorted(listed)}, "
                           f"in the plugin: {sorted(known)}")


def check_without_plugin(folder):
    """The two ways in which a missing plugin shows itself."""
    bench = ["db_bench", "--benchmarks=fillseq", "--num=10"]
    host = folder / "host"
    done = run([*bench, f"--db={host}", f"--fs_uri=dio://{DEVICE}"])
    check(done.returncode == -11,
          f"without the plugin, --fs_uri gives status {done.returncode}, "
          "not a segmentation fault")
    check(not host.exists(), "a fs_uri that is unknown made files on the host")
    done = run([*bench, f"--db={host}", f"--env_uri=dio://{DEVICE}"])
    check(done.returncode == 0 and (host / "CURRENT").exists(),
          "without the plugin, --env_uri does not work on the host silently")


def main():
    text = README.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if not target.startswith(("#", "https:")):
            check((ROOT / target).exists(), f"{target} does not exist")
    check_options(text)

    blocks = BLOCK.findall(text)
    with tempfile.TemporaryDirectory(prefix="diofs-readme.") as name:
        folder = pathlib.Path(name)
        check_without_plugin(folder)
        (folder / "build").mkdir()
        (folder / "build/release").symlink_to(BUILD)
        backing = folder / "device"
        backing.touch()
        os.truncate(backing, DEVICE_BYTES)
        device, descriptor = loop_device(backing)
        print(f"{DEVICE} is {device} here")
        for language, block in blocks:
            if language == "cpp":
                path = re.match(r"// (\S+)\n", block).group(1)
                (folder / path).write_text(block, encoding="utf-8")
            elif language == "sh":
                run_commands(block, folder, device)
        if descriptor is not None:
            os.close(descriptor)
    kinds = [language for language, _ in blocks]
    check(kinds.count("sh") >= 5 and "cpp" in kinds,
          f"the README has only these blocks: {kinds}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
