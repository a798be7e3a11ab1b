"""What the documentation shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dw_orchestration import PostHogWarehouseComponent

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def test_example_of_a_users_test_passes(tmp_path):
    """The test that the page on testing shows passes as it stands."""
    (example,) = blocks(ROOT / "docs" / "testing.md", "python")
    (tmp_path / "test_example.py").write_text(example)

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    """Every file that a page names is there."""
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())

    assert [] == [target for target in targets if "://" not in target and not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_attributes_that_pages_show_are_the_components(page):
    """A setting that is documented is one that the component takes."""
    known = set(PostHogWarehouseComponent.get_model_cls().model_fields)
    shown = [yaml.safe_load(block) for block in blocks(page, "yaml")]

    named = {name for block in shown for name in block.get("attributes", block) if name != "type"}
    assert set() == named - known


def test_readme_is_short():
    """A newcomer reads it whole: at most 600 words."""
    assert len((ROOT / "README.md").read_text().split()) <= 600
