"""The files that hold the project together agree, and every notebook keeps its contract."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import skimage
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import seglib
from book import build, retarget

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SABOTAGED = sorted((ROOT / "notebooks" / "sabotage").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
IMPORTED_AS = {
    "cv2": "opencv-python",
    "facer": "pyfacer",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "upath": "universal-pathlib",
    "yaml": "pyyaml",
}
ASKED_FOR = ("farl", "lab", "ray", "remote")  # extras that the package imports where it needs them


def requirements(*groups):
    """The direct dependencies of these groups, by canonical name."""
    found = [Requirement(text) for group in groups for text in group]
    return {canonicalize_name(r.name): r for r in found if r.name != PROJECT["name"]}


DIRECT = requirements(PROJECT["dependencies"], *EXTRAS.values())


def pins():
    """constraints.txt as {canonical name: version}."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


# As a picture goes: a module imports only what stands before it.
MODULES = (
    "errors", "files", "recipe", "wheels", "conversion", "assets", "devices", "weights",
    "alignment", "media", "video", "regions", "mesh", "faces", "parsing", "backbones",
    "indexing", "forgery", "perturbation", "mismatch", "manifest", "datasets", "descriptors",
    "store", "extraction", "cluster", "items", "resampling", "roc", "metrics", "simulation",
    "probing", "logistic", "training", "novelty", "panel", "stacking", "evaluation", "shortcuts",
    "scoretable", "results", "localisation", "scoring", "counterfactual", "demo", "trials",
    "zeroshot", "unseen", "ablation", "audit", "robustness", "experiments", "clips", "preflight",
    "published", "claims", "receipts", "colab", "reproduction", "verification", "figures",
    "microscope", "report", "export", "exercises", "cli",
)  # fmt: skip
README = (ROOT / "README.md").read_text(encoding="utf-8")


# --- dependencies


@pytest.mark.parametrize("name", DIRECT)
def test_a_dependency_has_a_lower_bound_only_and_a_pin_within_it(name):
    operators = {s.operator for s in DIRECT[name].specifier}
    assert operators == ({">=", "<"} if name == "jupyter-book" else {">="})
    assert DIRECT[name].specifier.contains(pins()[name]), f"constraints.txt pins {pins()[name]}"


def test_the_constraints_are_plain_exact_versions():
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pins().values())
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]


def test_all_means_every_extra():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all"}


def test_conda_installs_the_same_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"] == [
        f"python{PROJECT['requires-python']}",
        "pip",
        {"pip": ["-e .[all]"]},
    ]


def test_binder_installs_the_pinned_project():
    """Where Binder looks: paths in a requirements file are relative to it, `.` to the root."""
    folder = ROOT / ".binder"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    given = [line.split() for line in lines if line and not line.startswith("#")]
    assert ["-c", "../constraints.txt"] in given
    assert (folder / "../constraints.txt").is_file()
    (extras,) = re.fullmatch(r"\.\[(.*)\]", given[-1][0]).groups()
    assert set(extras.split(",")) <= EXTRAS.keys()
    assert (
        folder / "runtime.txt"
    ).read_text().strip() == f"python-{PROJECT['requires-python'][2:]}"
    assert os.access(folder / "postBuild", os.X_OK)


# --- what comes from others


WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}


def steps(workflow):
    jobs = yaml.safe_load(WORKFLOWS[workflow].read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_do_little_and_uses_what_github_keeps(name):
    """By default it only reads; and what it runs is GitHub's own, or lies here."""
    workflow = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    assert workflow["permissions"].items() <= {"contents": "read", "issues": "write"}.items()
    assert "pull_request_target" not in workflow[True]  # YAML takes `on` for a yes
    for action in filter(None, (step.get("uses") for step in steps(name))):
        if action.startswith("./"):
            assert (ROOT / action / "action.yml").is_file()
        else:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", action)


def test_the_weekly_audit_asks_about_every_pin():
    workflow = yaml.safe_load(WORKFLOWS["audit"].read_text(encoding="utf-8"))
    assert "schedule" in workflow[True]
    assert (
        workflow[True]["push"] == workflow[True]["pull_request"] == {"paths": ["constraints.txt"]}
    )
    assert "make audit" in [step.get("run") for step in steps("audit")]
    told = subprocess.run(["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True)
    assert "--requirement constraints.txt --no-deps --disable-pip --strict" in told.stdout


GH = """#!/bin/sh
if [ "$2" = list ]; then echo "$OPEN"; else printf '%s\\n' "$@"; fi
"""


@pytest.mark.parametrize(("found", "verb"), [("", "create"), ("7", "comment")])
def test_a_failure_is_one_issue_and_then_comments(tmp_path, found, verb):
    """The action's own script, with a stub in the place of GitHub's program."""
    action = ROOT / ".github" / "actions" / "issue" / "action.yml"
    (step,) = yaml.safe_load(action.read_text(encoding="utf-8"))["runs"]["steps"]
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    told = {"TITLE": "It $(fails)", "SAID": "See:", "RUN": "https://run", "OPEN": found}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step["run"]],
        env=told | {"PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert said[:2] == ["issue", verb]
    assert ("7" in said) == (verb == "comment")
    assert said[-1] == {"create": "See: https://run", "comment": "Again: https://run"}[verb]
    assert ("It $(fails)" in said) == (verb == "create")


def test_the_threat_model_names_tests_that_there_are():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "book" / "threat_model.md").read_text("utf-8")))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
    defined = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.M)}
    assert len(named) > 10
    assert named - defined == set()


def test_the_package_imports_only_what_it_declares():
    declared = requirements(PROJECT["dependencies"], *(EXTRAS[one] for one in ASKED_FOR))
    own = {"seglib", "google", *sys.stdlib_module_names}  # google.colab is Colab's, asked for there
    for path in sorted((ROOT / "seglib").rglob("*.py")):
        for name in imports(path) - own:
            package = canonicalize_name(IMPORTED_AS.get(name, name))
            assert package in declared, f"{path.name} imports {name}"


def imports(path):
    """The top-level modules that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.split(".")[0] for name in names}


def test_importing_the_package_is_light():
    code = "import sys, seglib; print({'torch', 'transformers', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_the_citation_names_this_version_and_the_paper():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["version"] == seglib.__version__
    assert "2606.00098" in text


# --- the package


def test_every_module_has_its_place_in_the_order():
    inside = (ROOT / "seglib").glob("[!_]*")
    files = [path for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert sorted(MODULES) == sorted(path.stem for path in files)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_stands_above_it(name):
    above = set(MODULES[: MODULES.index(name)])
    package = ROOT / "seglib" / name
    for path in package.rglob("*.py") if package.is_dir() else [package.with_suffix(".py")]:
        assert neighbours(path) - {name} <= above, path.name


def neighbours(path):
    """The modules of seglib that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}, line {node.lineno}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in found]
    return {p[1] for p in parts if p[0] == "seglib" and len(p) > 1 and p[1] != "__version__"}


# --- the README


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md"])
def test_a_page_of_the_repository_links_to_what_exists(name):
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:"))]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_readme_has_pictures_that_git_keeps():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size <= 300_000 for picture in pictures)
    if (ROOT / ".git").exists():
        ignored = subprocess.run(["git", "check-ignore", *pictures], cwd=ROOT)
        assert ignored.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "more", "said"),
    [
        ("extraction", "print(*descriptor.shape, count.item() > 0)", "1 384 True"),
        ("scoring", "print(len(verdict.tracks), verdict.reason)", "1 "),
    ],
)
def test_the_readmes_examples_run_as_written(tmp_path, module, more, said):
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "portrait.jpg")
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    (code,) = [block for block in blocks if module in block]
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"{code}\n{more}"]
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == said


# --- style


def test_no_file_names_a_folder_of_somebodys_machine():
    personal = re.compile(r"(?<![\w.])(/home/\w+/|/Users/\w+/|/root/|C:\\\\Users)")
    patterns = ("*", "seglib/**/*.py", "book/*", "book/**/*.md", "book/sabotage/*", ".ci/*")
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    for path in [*files, *NOTEBOOKS, *SABOTAGED]:
        found = personal.search(path.read_text(encoding="utf-8", errors="ignore"))
        assert not found, f"{path.name}: {found[0]}"


# --- notebooks


def test_there_are_notebooks_and_the_book_lists_them_all():
    assert NOTEBOOKS
    listed = [page for page in build.toc_pages(ROOT / "_toc.yml") if page.startswith("notebooks/")]
    assert listed == [f"notebooks/{path.stem}" for path in NOTEBOOKS]


@pytest.fixture(params=[*NOTEBOOKS, *SABOTAGED], ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def chapter(request):
    return nbformat.read(request.param, as_version=nbformat.NO_CONVERT)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def test_a_notebook_is_clean_and_of_the_current_format(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)  # 4.5: every cell has an id
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_notebook_declares_what_it_is(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.seglib.keys() == {"title", "licence", "accelerator", "data"}


def test_a_chapter_has_one_parameters_cell_for_the_demo(chapter):
    (cell,) = tagged(chapter, "parameters")
    assert 'mode = "demo"' in [line.split("  #")[0].strip() for line in cell.source.splitlines()]


def test_a_notebook_has_one_colab_cell_that_sleeps_elsewhere(notebook, monkeypatch):
    (cell,) = tagged(notebook, "colab")
    assert f"github.com/{retarget.address(ROOT)}" in cell.source

    def refuse(*args, **kwargs):
        raise AssertionError(f"the Colab cell acts outside Colab: {args}")

    for act in ("subprocess.Popen", "os.system", "os.chdir"):  # run and check_call use Popen
        monkeypatch.setattr(act, refuse)
    # Colab's `!pip ...` is no Python: it must stand under a condition that is false here.
    act = r"\1raise AssertionError('the Colab cell acts outside Colab')"
    exec(re.sub(r"^(\s*)[!%].*$", act, cell.source, flags=re.M), {})


def test_a_code_cell_is_a_thought_long(notebook):
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 15, number


# --- the address of the repository


@pytest.fixture
def copy(tmp_path):
    """The files that name the repository, in a folder of their own."""
    for path in retarget.places(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(path, target)
    return tmp_path


def named(path):
    """The repositories that a file points to."""
    return set(re.findall(r"github\.com/([\w.-]+/[\w-]+)", path.read_text(encoding="utf-8")))


def obliged(source):
    """The files that must name the repository."""
    names = ["_config.yml", "pyproject.toml", "CITATION.cff", "README.md", "SECURITY.md"]
    names += [path.relative_to(ROOT) for path in (*NOTEBOOKS, *SABOTAGED)]
    return [source / name for name in names]


def test_all_places_name_the_same_repository():
    for path in obliged(ROOT):
        assert retarget.address(ROOT) in named(path), f"{path.name} does not name the repository"


def test_retarget_rewrites_every_place_and_lights_the_buttons(copy):
    old = retarget.address(copy)
    before = {path: path.read_text(encoding="utf-8").count(old) for path in obliged(copy)}
    assert retarget.main(["ada/look-only.there", "--source", str(copy)]) == 0
    for path in obliged(copy):
        text = path.read_text(encoding="utf-8")
        assert "ada/look-only.there" in text, path.name
        assert f"github.com/{old}" not in text, path.name
        assert f"github/{old}" not in text, path.name
        assert text.count("ada/look-only.there") <= before[path]
    config = yaml.safe_load((copy / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == "https://github.com/ada/look-only.there"
    assert config["launch_buttons"].items() >= retarget.HOSTS.items()
    assert config["html"]["use_repository_button"] is True
    assert config["html"]["use_issues_button"] is True


def test_retarget_twice_is_once_and_back_is_back(copy):
    before = {path: path.read_bytes() for path in retarget.places(copy)}
    start = retarget.address(copy)
    assert retarget.retarget(copy, "ada/book")
    assert retarget.retarget(copy, "ada/book") == []
    assert retarget.retarget(copy, "ada/book.two")
    assert retarget.retarget(copy, start)
    assert {path: path.read_bytes() for path in retarget.places(copy)} == before


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "ada",
        "ada/",
        "/book",
        "a/b/c",
        "https://github.com/ada/book",
        "ada/book.git",
        "-ada/book",
        "ada/bo ok",
        "ada/..",
        "ada/b\n",
    ],
)
def test_retarget_refuses_what_is_no_repository(copy, capsys, repo):
    before = {path: path.read_bytes() for path in retarget.places(copy)}
    assert retarget.main(["--source", str(copy), "--", repo]) == 2
    assert "owner/name" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in retarget.places(copy)} == before


def test_a_longer_name_is_another_repository():
    text = "github.com/a/b github.com/a/b.git github.com/a/bc github.com/a/b-c a.github.io/b/x"
    assert retarget.rename(text, "a/b", "O/n") == (
        "github.com/O/n github.com/O/n.git github.com/a/bc github.com/a/b-c o.github.io/n/x"
    )
