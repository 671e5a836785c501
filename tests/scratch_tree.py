"""A copy of the source tree, to be broken on purpose."""

import shutil
import subprocess


def copy_tree(root, tree):
    """Makes `tree` what the working tree at `root` is, with what is not
    committed; what is the same keeps its time."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], capture_output=True, text=True, check=True)
    wanted = {name for name in listing.stdout.split("\0")
              if name and (root / name).is_file()}
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        if str(path.relative_to(tree)) not in wanted:
            path.unlink()
    for name in wanted:
        source, copy = root / name, tree / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            shutil.copymode(source, copy)
