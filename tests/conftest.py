import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
import shop as shop_project  # noqa: E402


@pytest.fixture
def project(tmp_path):
    """project(files, name="project") makes a project folder; its servers end with the test."""
    made = []

    def make(files=None, name="project"):
        made.append(harness.Project(tmp_path / name, files or {}))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shop(project):
    """A running server of the project in shop.py."""
    with project({"millstream.yaml": shop_project.SHOP}).server() as server:
        yield server


def pytest_report_header():
    return f"binary: {harness.BINARY}"
