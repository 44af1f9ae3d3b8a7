import ast
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
PROJECTS = [ROOT / "pyproject.toml", *MEMBERS]


def read(project: Path) -> dict[str, Any]:
    return tomllib.loads(project.read_text())


def name_of(project: Path) -> str:
    return str(read(project)["project"]["name"])


def third_party(project: Path) -> list[str]:
    """Requirements as written, without the workspace's own members."""
    document = read(project)
    project_table = document["project"]
    groups = [project_table.get("dependencies", []), *project_table.get("optional-dependencies", {}).values()]
    groups += document.get("dependency-groups", {}).values()
    own = {name_of(member) for member in MEMBERS}
    return [requirement for group in groups for requirement in group if requirement.split("[")[0] not in own]


def pinned(requirements: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", requirements, re.MULTILINE))


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_every_dependency_has_bounds_on_both_sides(project: Path) -> None:
    build = read(project).get("build-system", {}).get("requires", [])
    unbounded = [
        requirement for requirement in [*third_party(project), *build] if not re.search(r"==|>=[^,]+,<", requirement)
    ]
    assert unbounded == []


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_every_dependency_says_why_it_is_there(project: Path) -> None:
    text = project.read_text()
    silent = [r for r in third_party(project) if not re.search(rf'^ *"{re.escape(r)}", +# \w+', text, re.MULTILINE)]
    assert silent == []


def test_versions_and_python_bounds_of_all_members_agree() -> None:
    facts = {(read(p)["project"]["version"], read(p)["project"]["requires-python"]) for p in PROJECTS}
    assert len(facts) == 1


def test_the_root_installs_every_member() -> None:
    assert set(read(ROOT / "pyproject.toml")["project"]["dependencies"]) == {name_of(member) for member in MEMBERS}


def test_every_member_has_a_requirements_file_and_no_other_is_left() -> None:
    assert {path.stem for path in ROOT.glob("requirements/*.txt")} == {name_of(member) for member in MEMBERS}


@pytest.mark.parametrize("project", MEMBERS, ids=name_of)
def test_requirements_pin_every_direct_dependency_with_hashes_and_no_address(project: Path) -> None:
    requirements = (ROOT / "requirements" / f"{name_of(project)}.txt").read_text()
    direct = {re.split(r"[\[<>=]", requirement)[0] for requirement in third_party(project)}
    assert direct <= pinned(requirements)
    assert "://" not in requirements
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", requirements)[1:])


def test_torch_is_a_dependency_of_the_agent_and_of_nothing_below() -> None:
    assert "torch" not in pinned((ROOT / "requirements" / "borgcore.txt").read_text())


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda page: page.stem)
def test_every_decision_has_context_decision_and_price(page: Path) -> None:
    headings = re.findall(r"^## (\w+)", page.read_text(), re.MULTILINE)
    assert {"Context", "Decision", "Price"} <= set(headings)


UNIT_TESTS = sorted(ROOT.glob("tests/unit/borg*/**/test_*.py"))


@pytest.mark.parametrize("test", UNIT_TESTS, ids=lambda test: str(test.relative_to(ROOT / "tests" / "unit")))
def test_unit_tests_mirror_the_source(test: Path) -> None:
    """``tests/unit/<package>/<folder>/test_<module>[_<aspect>].py`` tests ``<package>/<folder>/<module>.py``."""
    package, *folders, name = test.relative_to(ROOT / "tests" / "unit").parts
    (source,) = (*ROOT.glob(f"libs/*/{package}"), *ROOT.glob(f"services/*/{package}"))
    modules = {path.stem for path in source.joinpath(*folders).glob("*.py")}
    words = name.removeprefix("test_").removesuffix(".py").split("_")
    assert modules & {"_".join(words[:count]) for count in range(1, len(words) + 1)}


def test_a_class_name_is_used_once() -> None:
    sources = [*ROOT.glob("libs/*/borg*/**/*.py"), *ROOT.glob("services/*/borg*/**/*.py")]
    trees = [ast.parse(path.read_text()) for path in sources if "wire" not in path.parts]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
