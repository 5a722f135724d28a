"""Write the exercises' stubs into the notebooks; the source is ``book/exercises``, the solutions.

An exercise is a block that begins with ``# %% NN-N``: comments with the task, then code whose
solution stands between ``# solution`` and ``# end``. The stub has ``...`` in its place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import v4

ROOT = Path(__file__).resolve().parent.parent
TAG = "exercise"
SOLUTION = re.compile(r"^( *)# solution\n.*?^ *# end\n", flags=re.M | re.S)
BEGIN = re.compile(r"^# %% (\d\d-\d)\n", flags=re.M)


@dataclass(frozen=True)
class Exercise:
    """number, say ``"02-3"``; the task in Markdown; the code with its solution."""

    number: str
    task: str
    solution: str

    @property
    def stub(self) -> str:
        """The code that a student gets."""
        return SOLUTION.sub(r"\1...  # your code\n", self.solution)

    def cells(self) -> list[nbformat.NotebookNode]:
        """Task and stub, as a notebook has them."""
        tags = {"tags": [TAG]}
        task = v4.new_markdown_cell(
            f"**{self.number}** {self.task}", id=f"exercise-{self.number}", metadata=tags
        )
        return [task, v4.new_code_cell(self.stub, id=f"stub-{self.number}", metadata=tags)]


def read(path: Path) -> Iterator[Exercise]:
    """The exercises of a chapter's file."""
    blocks = BEGIN.split(path.read_text(encoding="utf-8"))[1:]
    for number, block in zip(blocks[::2], blocks[1::2], strict=True):
        lines = block.splitlines(keepends=True)
        said = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        task = " ".join(line.lstrip("# ").rstrip() for line in lines[:said])
        yield Exercise(number, task, "".join(lines[said:]).strip())


def derived(notebook: nbformat.NotebookNode, source: Path) -> nbformat.NotebookNode:
    """The notebook with its exercises made anew, behind the cell that announces them."""
    cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", ())]
    (announced,) = (i for i, cell in enumerate(cells) if cell.source.startswith("## Exercises"))
    made = [cell for exercise in read(source) for cell in exercise.cells()]
    notebook.cells = [*cells[: announced + 1], *made, *cells[announced + 1 :]]
    return notebook


def main() -> int:
    """Rewrite every notebook whose exercises changed."""
    for source in sorted((ROOT / "book" / "exercises").glob("*.py")):
        (path,) = (ROOT / "notebooks").glob(f"{source.stem}_*.ipynb")
        before = path.read_text(encoding="utf-8")
        nbformat.write(derived(nbformat.reads(before, as_version=4), source), path)
        if path.read_text(encoding="utf-8") != before:
            print(f"{path.relative_to(ROOT)}: exercises written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
