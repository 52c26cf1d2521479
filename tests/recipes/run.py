"""Runs every block of the pages of docs/recipes as it stands there: tables, configuration and programs."""

import argparse
import pathlib
import sys
import tempfile
import time

from page import ROOT, Broken, Place, Runner, blocks

# What a recipe is made of: less would be a page that shows nothing that runs.
PARTS = {"sql", "toml"}
PROGRAMS = {"python", "js"}


# How a block of a language is spoilt, so that it cannot do what its page says.
SPOILT = {
    "sql": lambda text: text + "SELECT * FROM no_such_table;\n",
    "toml": lambda text: text.replace('table = "', 'table = "no_such_'),
    "python": lambda text: text.replace("assert ", "assert not "),
    "js": lambda text: text.replace("assert.equal(", "assert.notEqual("),
}


def run(path, program, node, spoilt=None):
    """What is wrong with a page, of which the first block of a language may be spoilt; nothing if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder, program)
        try:
            place.make_database()
            page = blocks(path)
            languages = {block.language for block in page}
            if not languages >= PARTS or not languages & PROGRAMS:
                raise Broken(f"{path.name}: has blocks of {sorted(languages)} only")
            runner = Runner(place, node)
            first = next((block for block in page if block.language == spoilt), None)
            if first:
                first.text = SPOILT[spoilt](first.text)
            for block in page:
                runner.block(block)
            place.stop()
            return None
        except Broken as broken:
            return str(broken)
        finally:
            place.close()


# What must be noticed, whatever the pages say: a block of each language that does not work.
SPOILT_PAGES = [("rate-limiter.md", "sql"), ("rate-limiter.md", "toml"), ("rate-limiter.md", "python"), ("tenants.md", "js")]


def unnoticed(arguments, page, spoilt):
    """True if a page with a spoilt block passes."""
    path = arguments.folder / page
    wrong = run(path, pathlib.Path(arguments.sidecar).resolve(), arguments.node, spoilt)
    first = next(block for block in blocks(path) if block.language == spoilt)
    is_noticed = wrong is not None and wrong.startswith(first.place)
    print(f"{'ok  ' if is_noticed else 'FAIL'} {page} with a block of {spoilt} that is spoilt is noticed", flush=True)
    if not is_noticed:
        print(wrong, flush=True)
    return not is_noticed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True)
    parser.add_argument("--node", required=True, help="where the packages of Node are installed")
    parser.add_argument("--folder", default=ROOT / "docs/recipes", type=pathlib.Path)
    parser.add_argument("--only", default="", help="pages whose names have this in them")
    arguments = parser.parse_args()
    pages = sorted(path for path in arguments.folder.glob("*.md") if arguments.only in path.name)
    if not pages:
        sys.exit(f"{arguments.folder} has no such page")
    failed = 0
    for path in pages:
        began = time.monotonic()
        wrong = run(path, pathlib.Path(arguments.sidecar).resolve(), arguments.node)
        print(f"{'FAIL' if wrong else 'ok  '} {path.name} ({time.monotonic() - began:.1f} s)", flush=True)
        if wrong:
            print(wrong, flush=True)
            failed += 1
    if not arguments.only:
        failed += sum(unnoticed(arguments, page, spoilt) for page, spoilt in SPOILT_PAGES)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
