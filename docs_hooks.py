"""What `mkdocs build` does besides: MathML for equations, and links that lead out of docs/."""

import html
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parent
DOCS = ROOT / "docs"
# Pages that are files of the repository, so that what they say stands once.
_SHOWN = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)#\s]+)([^)]*)\)")
# A function's name, whose argument would touch it but for a bracket.
_FUNCTION = re.compile(r'(<mi>(?:log|exp|tr)</mi>)(?!<mo stretchy="false">&#x00028;)')
_EQUATION = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Follow links: pictures beside docs/ come along, other files are named and not linked."""
    own = page.file.src_uri
    base = (DOCS / own).parent
    if own in _SHOWN:
        markdown = (ROOT / _SHOWN[own]).read_text("utf-8")
        base = ROOT
    shown = {(ROOT / file).resolve(): DOCS / name for name, file in _SHOWN.items()}

    def follow(found: re.Match[str]) -> str:
        mark, text, target, anchor = found.groups()
        source = (base / target).resolve()
        source = shown.get(source, source)
        if not source.exists():
            return found[0]  # which mkdocs complains of
        if not source.is_relative_to(DOCS):
            inside = source.relative_to(ROOT).as_posix()
            if not mark:
                return (
                    f"[{text}]({config.repo_url}/blob/main/{inside})" if config.repo_url else text
                )
            picture = f"repository/{inside}"
            if files.get_file_from_path(picture) is None:
                files.append(File.generated(config, picture, abs_src_path=str(source)))
            source = DOCS / picture
        return f"{mark}[{text}]({os.path.relpath(source, (DOCS / own).parent)}{anchor})"

    return _LINK.sub(follow, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Render equations, so that a page needs no script and no other host for them."""

    def render(found: re.Match[str]) -> str:
        latex = html.unescape(found[2]).strip()
        display = "block" if latex.startswith(r"\[") else "inline"
        mathml = convert(latex[2:-2].strip(), display=display)
        return _FUNCTION.sub(r'\1<mspace width="0.17em"/>', mathml)

    # Docstrings announce an indented example by two colons, which Markdown shows.
    return _EQUATION.sub(render, content).replace("::</p>", ":</p>")
