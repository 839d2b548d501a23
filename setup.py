"""The one thing that pyproject.toml cannot say: the README as an index of packages shows it.

There are no files beside it there, so links to them lead to the repository, where pyproject.toml
names one, and are plain text else; its pictures likewise, or are left out.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def long_description() -> str:
    """Return the README without relative links."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository = project["urls"].get("Repository", "").rstrip("/")

    def follow(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        if repository:
            kind = "raw" if mark else "blob"
            return f"{mark}[{text}]({repository}/{kind}/v{project['version']}/{target})"
        return "" if mark else text

    text = (ROOT / "README.md").read_text("utf-8")
    text = re.sub(r"(!?)\[([^\[\]]*)\]\((?!https?:|#)([^)\s]+)\)", follow, text)
    return re.sub(r"\n{3,}", "\n\n", text)


if __name__ == "__main__":
    setup(long_description=long_description(), long_description_content_type="text/markdown")
