"""Runs every block of the pages of docs/recipes as it stands there: tables, configuration and programs."""

import argparse
import pathlib
import sys
import tempfile
import time

from page import ROOT, Broken, Place, Runner, blocks

# What a recipe is made of: less would be a page that shows nothing that runs.
PARTS = {"sql", "toml"}
PROGRAMS = {"python", "js", "rust"}


# How a block of a language is spoilt, so that it cannot do what its page says.
SPOILT = {
    "sql": lambda text: text + "SELECT * FROM no_such_table;\n",
    "toml": lambda text: text.replace('table = "', 'table = "no_such_'),
    "python": lambda text: text.replace("assert ", "assert not "),
    "js": lambda text: text.replace("assert.equal(", "assert.notEqual("),
    "rust": lambda text: text.replace("assert_eq!(", "assert_ne!("),
}


def run(path, arguments, spoilt=None):
    """What is wrong with a page, of which the first block of a language may be spoilt; nothing if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder, pathlib.Path(arguments.sidecar).resolve(), arguments.redis)
        try:
            place.make_database()
            page = blocks(path)
            languages = {block.language for block in page}
            if not languages >= PARTS or not languages & PROGRAMS:
                raise Broken(f"{path.name}: has blocks of {sorted(languages)} only")
            runner = Runner(place, arguments.tools)
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
SPOILT_PAGES = [("rate-limiter.md", "sql"), ("rate-limiter.md", "toml"), ("rate-limiter.md", "python")]
SPOILT_PAGES += [("tenants.md", "js"), ("client-side-caching.md", "rust")]


def unnoticed(arguments, page, spoilt):
    """True if a page with a spoilt block passes."""
    path = arguments.folder / page
    wrong = run(path, arguments, spoilt)
    first = next(block for block in blocks(path) if block.language == spoilt)
    is_noticed = wrong is not None and wrong.startswith(first.place)
    print(f"{'ok  ' if is_noticed else 'FAIL'} {page} with a block of {spoilt} that is spoilt is noticed", flush=True)
    if not is_noticed:
        print(wrong, flush=True)
    return not is_noticed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sidecar", required=True)
    parser.add_argument("--tools", required=True, help="where the packages of Node and the crates are")
    parser.add_argument("--redis", default="redis-server", help="a redis-server of 7.4 or later")
    parser.add_argument("--folder", default=ROOT / "docs/recipes", type=pathlib.Path)
    parser.add_argument("--only", default="", help="pages whose names have this in them")
    arguments = parser.parse_args()
    pages = sorted(path for path in arguments.folder.glob("*.md") if arguments.only in path.name)
    if not pages:
        sys.exit(f"{arguments.folder} has no such page")
    failed = 0
    for path in pages:
        began = time.monotonic()
        wrong = run(path, arguments)
        print(f"{'FAIL' if wrong else 'ok  '} {path.name} ({time.monotonic() - began:.1f} s)", flush=True)
        if wrong:
            print(wrong, flush=True)
            failed += 1
    if not arguments.only:
        failed += sum(unnoticed(arguments, page, spoilt) for page, spoilt in SPOILT_PAGES)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
