"""Run every notebook, then build the book from what they printed.

Everything happens in a stage folder laid out like the repository, so the links that Jupyter
Book derives from a page's path stay right. The finished pages are moved to ``OUT/html`` as the
very last act: whatever fails before leaves the former pages as they were.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from bs4 import BeautifulSoup
from nbformat import v4
from papermill.exceptions import PapermillExecutionError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where a script finds `book`

from book import slides
from seglib import receipts, results, verification
from seglib.errors import SeglibError

ROOT = Path(__file__).resolve().parent.parent
PLOTLYJS = "_assets/plotly.min.js"  # not in _static/: what lies there loads on every page
CELL_TIMEOUT = {"demo": 1800, "paper": None}  # seconds; paper mode works through whole data sets
KERNEL_LOG = "kernel.log"  # in the stage
HANDED_OUT = "sabotage"  # among the notebooks: neither run nor shown, to be downloaded from a page
RESULTS = "results"  # in the stage: what this run measured
MARKER = ".made-by-book-build"  # in every folder made here: only those are ever replaced
SHOWN_LINES = 12  # of a failing cell's source
LOADED = "script[src], img[src], iframe[src], source[src], video[src], link[href]"
REPAIRS = {  # what theme and Sphinx write, and what goes there instead
    # A browser refuses to preload fonts from disk, loudly.
    r'<link rel="preload" as="font"[^>]*>\s*': "",
    # The button shows more than its label says, so that who speaks what is shown cannot press it.
    r'(<button[^>]*search-button-field[^>]*?)\s+aria-label="[^"]*"': r"\1",
    # Without a pointer, what scrolls must take the focus.
    r'<div class="pst-scrollable-table-container">': (
        '<div class="pst-scrollable-table-container" tabindex="0">'
    ),
    # A dot in an address within a page is a class to a script that looks for it.
    r'(#|id=")term-([\w-]+)\.': r"\1term-\2-",
    # A list whose items are none.
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
}
LOCAL_PATHS = (str(ROOT / "seglib"), os.path.join(sys.prefix, "lib"))  # as a warning would print

EXAMPLES = """\
examples:
  python book/build.py                        the whole book, demo mode, into _build/html
  python book/build.py --only 02              run one chapter; the pages go to _build/preview
  python book/build.py --only 03 --no-publish run it and stop; see _build/stage/notebooks
  python book/build.py --mode paper --out /tmp/book
  python book/build.py --no-publish --keep-results    what `make results` does
"""


class BuildError(Exception):
    """The book cannot be built; the message says which notebook, cell or page, and why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the book as the command line asks; return the exit status."""
    options = parse(argv)
    started = time.monotonic()
    try:
        page = build(options)
    except BuildError as error:
        print(f"\n{error}\n\nNothing was published.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing was published.", file=sys.stderr)
        return 130
    print(f"Done in {time.monotonic() - started:.0f} s: {page.as_uri()}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python book/build.py",
        description=__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--mode",
        choices=tuple(CELL_TIMEOUT),
        default="demo",
        help="demo: embedded weights and faces, no network (default); "
        "paper: the gated weights and data sets",
    )
    parser.add_argument(
        "--only",
        metavar="NN,NN",
        help="run these chapters only; the others are shown without outputs",
    )
    parser.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a notebook parameter; VALUE is YAML, so false is a boolean",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "_build",
        metavar="DIR",
        help="where stage and pages go (default: _build)",
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="folder with _config.yml, _toc.yml, book/ and notebooks/",
    )
    parser.add_argument(
        "--no-publish", action="store_true", help="stop when the notebooks have run"
    )
    parser.add_argument(
        "--keep-results",
        action="store_true",
        help="make this run's numbers the published ones (results/), whatever they were before",
    )
    return parser.parse_args(argv)


def build(options: argparse.Namespace) -> Path:
    """Run, build, check and publish.

    Returns
    -------
    Path
        The book's first page, or the folder of executed notebooks under ``--no-publish``.

    Raises
    ------
    BuildError
        At the first thing that is wrong.
    """
    out, source = options.out.resolve(), options.source.resolve()
    notebooks = find_notebooks(source / "notebooks")
    chosen = choose(notebooks, options.only)
    parameters = read_parameters(options.parameters) | {"mode": options.mode}
    for notebook in chosen:  # all of them before the first runs: a typing error costs no minutes
        check_clean(notebook)
        check_parameters(notebook, parameters)

    target = out / ("preview" if options.only else "html")
    for folder in (out / "stage", target, former(target)):
        check_ours(folder)
    stage = fresh_stage(out, source, notebooks)
    for number, notebook in enumerate(chosen, 1):
        label = f"[{number}/{len(chosen)}] {notebook.stem:<{max(len(n.stem) for n in chosen)}}"
        with step(label):
            run(notebook, stage / "notebooks" / notebook.name, parameters, options.mode, label)
    if options.keep_results:
        # Receipts compare with what was published before: not worth keeping.
        passing = shutil.ignore_patterns("replications")
        shutil.copytree(stage / RESULTS, results.FOLDER, dirs_exist_ok=True, ignore=passing)
    with step("results"):
        check_results(stage / RESULTS)
    if options.no_publish:
        return stage / "notebooks"

    if source == ROOT:  # another book quotes nothing of ours
        with step("verify"):
            check_published()
    with step("Jupyter Book"):
        html = build_html(stage)
        slides.write(html)
        check_pages(html, toc_pages(stage / "_toc.yml"))
    return publish(html, target) / "index.html"


# ---------------------------------------------------------------------------- before anything runs


def find_notebooks(folder: Path) -> list[Path]:
    """Return the chapters ``NN_name.ipynb`` of a folder, in reading order."""
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise BuildError(f"No notebook named NN_name.ipynb in {folder}.")
    return notebooks


def choose(notebooks: Sequence[Path], only: str | None) -> list[Path]:
    """Return the notebooks whose number or name is among the comma-separated `only`."""
    if only is None:
        return list(notebooks)
    known = {key: n for n in notebooks for key in (n.stem[:2], n.stem)}
    wanted = [key.strip() for key in only.split(",")]
    if unknown := [key for key in wanted if key not in known]:
        names = ", ".join(n.stem for n in notebooks)
        raise BuildError(f"--only: there is no chapter {unknown[0]!r}. Chapters: {names}")
    return sorted({known[key] for key in wanted})


def read_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn ``name=value`` pairs into typed values.

    Papermill's own ``-p fast false`` injects the string "false", which is true; read as YAML it
    is the boolean.
    """
    for pair in pairs:
        if "=" not in pair:
            raise BuildError(f"-p wants NAME=VALUE; found {pair!r}.")
        if pair.startswith("mode="):
            raise BuildError("The mode is set by --mode demo or --mode paper.")
    try:
        return {name: yaml.safe_load(value) for name, value in (p.split("=", 1) for p in pairs)}
    except yaml.YAMLError as error:
        raise BuildError(f"-p wants a VALUE that is YAML; {' '.join(pairs)}: {error}") from error


def check_clean(notebook: Path) -> None:
    """Refuse a notebook that carries outputs: a page shows only what this run printed."""
    for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells, 1):
        if cell.get("outputs") or cell.get("execution_count"):
            raise BuildError(
                f"{notebook.name}, cell {number} carries outputs; notebooks are kept without them. "
                f"Run: python -m nbconvert --clear-output --inplace {notebook}"
            )


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that the notebook does not have, or whose type differs from its default.

    Papermill would inject either without a word.
    """
    known = known_parameters(notebook)
    for name, value in parameters.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            has = ", ".join(known) or "none"
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {has}."
            raise BuildError(f"{notebook.name} has no parameter {name!r}. {hint}")
        try:
            default = ast.literal_eval(known[name]["default"])
        except (SyntaxError, ValueError):
            continue  # an expression: its type shows only when it runs
        expected = (int, float) if type(default) is float else type(default)
        if default is not None and (
            not isinstance(value, expected) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise BuildError(
                f"{notebook.name}: parameter {name!r} is of type {type(default).__name__} "
                f"(default {default!r}); found {value!r}, of type {type(value).__name__}."
            )


def known_parameters(notebook: Path) -> dict[str, dict[str, str]]:
    """Return what papermill can read off a notebook's cell tagged ``parameters``."""
    try:
        return papermill.inspect_notebook(notebook)
    except ValueError as error:  # no kernel named in the metadata
        raise BuildError(f"{notebook.name}: {error}") from error


def check_ours(folder: Path) -> None:
    """Refuse to replace a folder that was not made here: ``--out`` may name any folder."""
    if folder.exists() and not (folder / MARKER).is_file():
        remedy = "run `make clean`" if folder.parent == ROOT / "_build" else "move it away"
        raise BuildError(
            f"{folder} would be replaced, but nothing shows that book/build.py made it: it holds "
            f"no {MARKER}. To build there, {remedy}; or choose another folder with --out."
        )


# ----------------------------------------------------------------------------------- the notebooks


def fresh_stage(out: Path, source: Path, notebooks: Sequence[Path]) -> Path:
    """Copy the book's sources to an empty ``OUT/stage``."""
    stage = out / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    (stage / MARKER).touch()
    shutil.copytree(
        source / "book", stage / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__", ".*")
    )
    (stage / "notebooks" / HANDED_OUT).mkdir(parents=True)
    handed_out = (source / "notebooks" / HANDED_OUT).glob("*.ipynb")
    for path in (*handed_out, source / "_config.yml", source / "_toc.yml"):
        shutil.copy(path, stage / path.relative_to(source))
    for path in notebooks:
        nbformat.write(not_run(nbformat.read(path, as_version=4)), stage / "notebooks" / path.name)
    return stage


def not_run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Say so in the place of each numbered figure, to which other chapters may refer."""
    for cell in notebook.cells:
        if cell.metadata.get("mystnb", {}).get("figure"):
            told = {"text/html": "<em>Not run in this build.</em>"}
            cell.outputs = [v4.new_output("display_data", told)]
    return notebook


def run(source: Path, target: Path, parameters: Mapping[str, Any], mode: str, label: str) -> None:
    """Execute one notebook to `target`, ready to be published.

    Raises
    ------
    BuildError
        If any cell failed. A failed run is saved like a good one and the book would publish it,
        so papermill's exception, its metadata and every output are looked at.
    """
    bar = {"bar_format": label + "   cell {n_fmt}/{total_fmt}   {elapsed}", "leave": False}
    bar |= {"file": sys.stdout, "disable": not sys.stdout.isatty(), "mininterval": 0}
    stage = target.parent.parent
    kernel = {"SEGLIB_PLOTLYJS": f"../{PLOTLYJS}", "SEGLIB_RESULTS": str(stage / RESULTS)}
    if mode == "demo":
        kernel["HF_HUB_OFFLINE"] = "1"  # without it a missing file takes 23 s to be missed
    failure = None
    log = stage / KERNEL_LOG
    with tempfile.TemporaryDirectory() as scratch, environment(kernel), stderr_to(log):
        try:
            papermill.execute_notebook(
                source,
                target,
                dict(parameters),
                cwd=scratch,
                progress_bar=bar,
                kernel_name="python3",
                execution_timeout=CELL_TIMEOUT[mode],
            )
        except PapermillExecutionError:
            pass  # the cell's own output says more
        except Exception as error:  # the kernel died, a cell ran out of time, no kernel at all
            failure = f"{type(error).__name__}: {error}"

    executed = nbformat.read(target, as_version=4)
    if failure or is_failed(executed):
        raise BuildError(explain_failure(source, executed, failure, target))
    nbformat.write(stamped(scrub(executed, parameters, known_parameters(source))), target)


def is_failed(notebook: nbformat.NotebookNode) -> bool:
    """Say whether an executed notebook holds any trace of an error."""
    marked = notebook.metadata.get("papermill", {}).get("exception")
    return bool(marked) or any(map(has_error, notebook.cells))


def has_error(cell: nbformat.NotebookNode) -> bool:
    """Say whether a cell raised; also where papermill shrugs, as at ``sys.exit()``."""
    marked = cell.metadata.get("papermill", {}).get("exception")
    return bool(marked) or any(o.output_type == "error" for o in cell.get("outputs", ()))


def explain_failure(
    source: Path, executed: nbformat.NotebookNode, failure: str | None, target: Path
) -> str:
    """Name the notebook, the cell as numbered in the source, its first lines and the error."""
    started = [c for c in executed.cells if c.metadata.get("papermill", {}).get("start_time")]
    cell = next(filter(has_error, executed.cells), started[-1] if started else None)
    if cell is None:
        return f"{source.name}: {failure}"
    # By id: papermill inserts cells of its own, so its numbers are not the reader's.
    ids = [c.get("id") for c in nbformat.read(source, as_version=4).cells]
    known = cell.get("id") in ids
    where = f"cell {ids.index(cell.id) + 1} of {len(ids)}" if known else "the injected parameters"
    code = [f"    | {line}" for line in cell.source.splitlines()]
    if len(code) > SHOWN_LINES:
        code[SHOWN_LINES:] = ["    | ..."]
    raised = [f"{o.ename}: {o.evalue}" for o in cell.get("outputs", ()) if "ename" in o]
    error = failure or "\n".join(raised)
    return "\n".join(
        [
            f"{source.name}, {where}:",
            *code,
            error,
            f"As far as it ran: {target}",
            f"The kernels' own messages: {target.parent.parent / KERNEL_LOG}",
        ]
    )


def scrub(
    notebook: nbformat.NotebookNode,
    parameters: Mapping[str, Any],
    known: Mapping[str, Mapping[str, str]],
) -> nbformat.NotebookNode:
    """Drop what belongs to this machine, and hide injected parameters that repeat the defaults.

    Values that differ from the defaults stay visible: a page must show what it was made with.
    """
    keep = ("duration", "end_time", "parameters", "start_time", "version")
    record = notebook.metadata.get("papermill", {})
    notebook.metadata["papermill"] = {key: record[key] for key in keep if key in record}
    repeated = all(
        known[name]["default"] in (repr(value), f'"{value}"') for name, value in parameters.items()
    )
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and repeated:
            cell.metadata["tags"] = [*tags, "remove-cell"]
    return notebook


def stamped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Write into a notebook what ran it, for book/status.py; the kernel is this environment's."""
    versions = receipts.versions() | {"papermill": papermill.__version__}
    notebook.metadata["seglib_ran"] = {"versions": versions, "machine": receipts.machine()}
    return notebook


def check_results(folder: Path) -> None:
    """Refuse a run that does not reproduce the numbers which the pages quote.

    A record that is not published, that other decisions made, or a number outside its published
    interval: the prose would speak of something else than what was measured.
    """
    try:
        made, known = results.published(folder=folder), results.published()
    except SeglibError as error:
        raise BuildError(str(error)) from error
    problems = [f"{key} is not published" for key in made if key not in known]
    problems += [
        f"{key} was published under recipe {known[key].recipe}; this run's is {result.recipe}"
        for key, result in made.items()
        if key in known and known[key].recipe != result.recipe
    ]
    moved = results.compare(made, known)
    problems += [
        f"{row.Index} is {row.here:g}; published was {known[row.Index]}"
        for row in moved[~moved.inside.astype(bool)].itertuples()
    ]
    if problems:
        told = [*problems[:SHOWN_LINES], f"... and {len(problems) - SHOWN_LINES} more"]
        raise BuildError(
            "\n".join(
                [
                    "This run did not reproduce the published results:",
                    *(told if len(problems) > SHOWN_LINES else problems),
                    "If that was meant, run `make results`, read what changed, and commit it.",
                ]
            )
        )


def check_published() -> None:
    """Refuse published numbers, claims, quotes and receipts that are not what they say."""
    problems = [one for check in verification.offline() for one in check.problems]
    if problems:
        raise BuildError("\n".join(["What is published does not verify:", *problems]))


# ---------------------------------------------------------------------------------------- the pages


def toc_pages(toc: Path) -> list[str]:
    """Return the pages of a ``_toc.yml``, in reading order, without their suffix."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from walk(item)
        elif isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections"):
                yield from walk(node.get(key, []))

    return list(walk(yaml.safe_load(toc.read_text(encoding="utf-8"))))


def build_html(stage: Path) -> Path:
    """Turn the stage into HTML, every warning an error; return the folder of pages."""
    # This interpreter's Jupyter Book, whatever PATH says; the package has no __main__.
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    done = subprocess.run(
        [*jupyter_book, "build", str(stage), "-W", "-n", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # the book's own Sphinx extensions
    )
    if done.returncode:
        lines = done.stdout.splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line]
        crash = next((at for at, line in enumerate(lines) if "Exception occurred" in line), None)
        if crash is not None:  # the traceback below it is Jupyter Book's own and tells nothing
            told += lines[crash : crash + SHOWN_LINES]
        raise BuildError("\n".join(["Jupyter Book failed:", *(told or lines[-30:])]))
    html = stage / "_build" / "html"
    (html / MARKER).touch()
    plotlyjs = html / PLOTLYJS
    plotlyjs.parent.mkdir(exist_ok=True)
    shutil.copy(str(files("plotly") / "package_data" / "plotly.min.js"), plotlyjs)
    for page in html.rglob("*.html"):
        page.write_text(repaired(page.read_text(encoding="utf-8")), encoding="utf-8")
    return html


def repaired(text: str) -> str:
    """A page without what a browser or a screen reader stumbles over, see `REPAIRS`."""
    for found, instead in REPAIRS.items():
        text = re.sub(found, instead, text)
    return text


def check_pages(html: Path, pages: Sequence[str]) -> None:
    """Refuse a book with a missing page, a traceback, a remote resource or a local path."""
    problems = [
        f"{page}.html was not built" for page in pages if not (html / f"{page}.html").is_file()
    ]
    for path in sorted(html.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        problems += [f"{path.relative_to(html)}: {problem}" for problem in page_problems(text)]
    if problems:
        raise BuildError("\n".join(["The pages are not fit to be published:", *problems]))


def page_problems(text: str) -> list[str]:
    """Return what in a page's HTML must not be published."""
    page = BeautifulSoup(text, "html.parser")
    problems = ["shows a traceback"] if page.select(".output.traceback") else []
    problems += [f"names {path}, of this machine" for path in LOCAL_PATHS if path in text]
    for tag in page.select(LOADED):
        address = tag.get("src") or tag["href"]
        if address.startswith(("http:", "https:", "//")):
            problems.append(f"<{tag.name}> loads {address} from the network")
    return problems


def publish(html: Path, target: Path) -> Path:
    """Put `html` in the place of `target`; should that fail, `target` is what it was."""
    aside = former(target)
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    try:
        html.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return target


def former(target: Path) -> Path:
    """Return where the former pages wait while the new ones take their place."""
    return target.with_name(f"{target.name}.former")


# --------------------------------------------------------------------------------------- small help


@contextmanager
def step(label: str) -> Iterator[None]:
    """Print one line when a step ends: its name, seconds, and how it ended."""
    started, outcome = time.monotonic(), "FAILED"
    try:
        yield
        outcome = "ok"
    finally:
        print(f"{label}   {time.monotonic() - started:4.0f} s   {outcome}", flush=True)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which the kernel inherits, for the time of a block."""
    before = os.environ.copy()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def stderr_to(log: Path) -> Iterator[None]:
    """Append this process's standard error, which a kernel inherits, to a file for a while.

    Native libraries greet there; a line of theirs would break the progress lines.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)


if __name__ == "__main__":
    sys.exit(main())
