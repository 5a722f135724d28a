"""Derive what students get from what is right: exercises' stubs, and sabotaged chapters.

An exercise, in ``book/exercises``, is a block that begins with ``# %% NN-N``: comments with the
task, then code whose solution stands between ``# solution`` and ``# end``. The stub has ``...`` in
its place.

A sabotaged chapter, in ``book/sabotage``, is a notebook in percent format that begins with comments
for its metadata. Its one fault is a comment: what stands between ``# honest`` and ``# planted``
is replaced by what stands between that and ``# end``, uncommented.
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
CHAPTER = ROOT / "notebooks" / "03_probing.ipynb"  # that sabotaged ones take their frame from
SOLUTION = re.compile(r"^( *)# solution\n.*?^ *# end\n", flags=re.M | re.S)
BEGIN = re.compile(r"^# %% (\d\d-\d)\n", flags=re.M)
PLANTED = re.compile(r"^ *# honest\n(.*?)^ *# planted\n(.*?)^ *# end\n", flags=re.M | re.S)
COMMENT = re.compile(r"^( *)# ?", flags=re.M)
CELL = re.compile(r"^# %%( \[markdown\])?\n", flags=re.M)
SAID = re.compile(r"^# (title|data): (.+)$", flags=re.M)


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


# -- sabotaged chapters -----------------------------------------------------------------------


@dataclass(frozen=True)
class Sabotage:
    """A sabotaged chapter by its source, in percent format."""

    path: Path
    text: str

    @classmethod
    def of(cls, path: Path) -> Sabotage:
        """Read a source of ``book/sabotage``; it has exactly one fault."""
        text = path.read_text(encoding="utf-8")
        (_,) = PLANTED.finditer(text)
        return cls(path, text)

    @property
    def honest(self) -> str:
        """The whole source without the fault."""
        return PLANTED.sub(lambda found: found[1], self.text)

    @property
    def sabotaged(self) -> str:
        """The whole source with the fault."""
        return PLANTED.sub(lambda found: COMMENT.sub(r"\1", found[2]), self.text)

    @property
    def target(self) -> Path:
        """The notebook that a student gets: ``s1_couples.py`` becomes ``S1_couples.ipynb``."""
        return ROOT / "notebooks" / "sabotage" / f"{self.path.stem.capitalize()}.ipynb"

    def notebook(self, chapter: nbformat.NotebookNode) -> nbformat.NotebookNode:
        """The sabotaged notebook; kernel, licence and the cell for Colab are the chapter's."""
        (colab,) = (c for c in chapter.cells if "colab" in c.metadata.get("tags", ()))
        own = dict(SAID.findall(CELL.split(self.sabotaged)[0]))
        number = self.path.stem.partition("_")[0]
        title, *rest = cells(self.sabotaged, number)
        colab = v4.new_code_cell(colab.source, id=f"{number}-colab", metadata=colab.metadata)
        metadata = chapter.metadata | {"seglib": chapter.metadata.seglib | own}
        return v4.new_notebook(cells=[title, colab, *rest], metadata=metadata)


def cells(text: str, number: str) -> list[nbformat.NotebookNode]:
    """The cells of a text in percent format, named ``s1-00``, ``s1-01`` ..."""
    found = CELL.split(text)[1:]
    made = []
    for place, (prose, source) in enumerate(zip(found[::2], found[1::2], strict=True)):
        name = f"{number}-{place:02}"
        if prose:
            made.append(v4.new_markdown_cell(COMMENT.sub("", source).strip(), id=name))
        else:
            made.append(v4.new_code_cell(source.strip(), id=name))
    return made


def sabotages() -> list[Sabotage]:
    """All of them, in their order."""
    return [Sabotage.of(path) for path in sorted((ROOT / "book" / "sabotage").glob("*.py"))]


# -- both -------------------------------------------------------------------------------------


def main() -> int:
    """Rewrite every notebook that changed."""
    for source in sorted((ROOT / "book" / "exercises").glob("*.py")):
        (path,) = (ROOT / "notebooks").glob(f"{source.stem}_*.ipynb")
        write(derived(nbformat.read(path, as_version=4), source), path)
    chapter = nbformat.read(CHAPTER, as_version=4)
    for sabotage in sabotages():
        write(sabotage.notebook(chapter), sabotage.target)
    return 0


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook, and say so where it is another than before."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    if path.read_text(encoding="utf-8") != before:
        print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    sys.exit(main())
