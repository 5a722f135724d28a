"""Write the repository's address everywhere, and switch the book's buttons on.

The address is kept in ``_config.yml``; every other occurrence is found by it and rewritten. With
the placeholder OWNER/REPOSITORY as argument the buttons go off again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "OWNER/REPOSITORY"
PLACES = (
    "_config.yml",
    "pyproject.toml",
    "CITATION.cff",
    "README.md",
    "SECURITY.md",
    "book/**/*.md",
    "notebooks/*.ipynb",
    "notebooks/sabotage/*.ipynb",
)
HOSTS = {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"}
# GitHub's rules: an owner of 1-39 letters, digits and inner hyphens, a name of at most 100.
REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?/(?!\.{1,2}$)[\w.-]{1,100}", re.A)


def main(argv: Sequence[str] | None = None) -> int:
    """Retarget as the command line asks; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python book/retarget.py",
        description=__doc__.splitlines()[0],
        epilog="example: make retarget REPO=ada/look-only-there",
    )
    parser.add_argument("repo", metavar="owner/name")
    parser.add_argument("--source", type=Path, default=ROOT, metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        changed = retarget(options.source, options.repo)
    except ValueError as error:
        print(f"retarget: {error}", file=sys.stderr)
        return 2
    for path in changed:
        print(f"rewritten: {path}")
    print(f"The repository is {address(options.source)}.")
    return 0


def retarget(source: Path, repo: str) -> list[Path]:
    """Make `repo` (``owner/name``) the address of the repository; return the files changed.

    Raises
    ------
    ValueError
        If `repo` is not of that form; no file is touched then.
    """
    if not REPO.fullmatch(repo) or repo.endswith(".git"):
        raise ValueError(f"REPO must be owner/name, as ada/look-only-there; found {repo!r}.")
    old = address(source)
    changed = []
    for path in places(source):
        text = path.read_text(encoding="utf-8")
        new = rename(text, old, repo)
        if path.name == "_config.yml":
            new = switch_buttons(new, on=repo != PLACEHOLDER)
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path.relative_to(source))
    return changed


def address(source: Path) -> str:
    """Return ``owner/name`` as it stands in ``_config.yml``."""
    found = re.search(
        r"^  url: https://github\.com/(\S+)$",
        (source / "_config.yml").read_text(encoding="utf-8"),
        re.M,
    )
    if not found:
        raise ValueError("_config.yml has no line `  url: https://github.com/owner/name`.")
    return found[1]


def places(source: Path) -> list[Path]:
    """Return the files that may name the repository; ``_config.yml`` last.

    It is the record of the old address, so a run that was interrupted can be run again.
    """
    found = [path for pattern in PLACES for path in sorted(source.glob(pattern))]
    return sorted(found, key=lambda path: path.name == "_config.yml")


def rename(text: str, old: str, new: str) -> str:
    """Replace `old` by `new` in GitHub addresses, Colab links and the address of the pages."""
    end = r"(?![\w-])(?!\.(?!git\b)\w)"  # not the beginning of a longer name
    text = re.sub(rf"(github(?:\.com)?[/:]){re.escape(old)}{end}", rf"\g<1>{new}", text)
    (old_owner, old_name), (owner, name) = old.split("/"), new.split("/")
    pages = rf"{re.escape(old_owner)}\.github\.io/{re.escape(old_name)}{end}"
    return re.sub(pages, f"{owner.lower()}.github.io/{name}", text, flags=re.I)


def switch_buttons(config: str, on: bool) -> str:
    """Turn the launch and the repository buttons of ``_config.yml`` on or off."""
    for name, url in HOSTS.items():
        config = re.sub(rf"^(  {name}:).*$", rf'\1 "{url if on else ""}"', config, flags=re.M)
    return re.sub(
        r"^(  use_(?:repository|issues)_button:).*$", rf"\1 {str(on).lower()}", config, flags=re.M
    )


if __name__ == "__main__":
    sys.exit(main())
