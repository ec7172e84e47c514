"""What the site needs beyond MkDocs: links into the repository, the rendered tables, nothing loaded from elsewhere.

A page links to a file of the repository by its relative path, such as `../drc/model.py`, which a code host follows.
In the site that file becomes a page of its own (text) or is copied (pictures). A link whose text is a dotted name,
such as `drc.model.responsibilities`, leads to the line where the name is defined.
"""

from __future__ import annotations

import ast
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)\)")
SHOWN = (
    "table1",
    "table1-cpu-hour",
    "table1-cpu-evening",
    "table1-gpu",
    "table2",
    "table2-quick",
    "table2-cpu-hour-ablation",
    "table3",
    "table4",
    "grey",
    "photos-quick",
    "photos",
    "photos-cpu-hour-ablation",
    "photos-gpu",
    "trials",
)
TABLES = "<!-- the tables of results/ -->"
PICTURES = {".png", ".svg", ".jpg"}
LOADING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
LOADING_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


def line_of(source: str, path: list[str]) -> int | None:
    """The line where a dotted path of names is defined in Python source, None where it is not."""
    nodes, line = ast.parse(source).body, None
    for name in path:
        for node in nodes:
            if _name(node) == name:
                nodes, line = getattr(node, "body", []), node.lineno
                break
        else:
            return None
    return line


def _name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return getattr(target, "id", None)
    return getattr(node, "name", None)


def place(path: str) -> str:
    """Where a file of the repository lies in the site's sources."""
    return f"source/{path}" if Path(path).suffix in PICTURES else f"source/{path}.md"


def target(text: str, path: str) -> str:
    """Where a link of this text to a file of the repository leads in the site."""
    module = path.removesuffix(".py").replace("/", ".")
    name = text.strip("`").removeprefix(f"{module}.")
    if not path.endswith(".py") or name == text.strip("`"):
        return place(path)
    line = line_of((ROOT / path).read_text(encoding="utf-8"), name.split("."))
    return place(path) if line is None else f"{place(path)}#L-0-{line}"


def source_page(path: str) -> str:
    """The page that shows a text file of the repository."""
    text, language = (ROOT / path).read_text(encoding="utf-8"), {".py": "python", ".tex": "latex"}
    fence = "`" * 8
    kind = language.get(Path(path).suffix, "text")
    return f'---\nsearch:\n  exclude: true\nhide: [toc]\n---\n# {path}\n\n{fence}{kind} linenums="1"\n{text}{fence}\n'


def foreign(text: str, css: bool = False) -> list[str]:
    """Addresses on other machines that a page, or a style sheet, loads when it is shown; links are none."""
    found = [] if css else _Loads(text).found
    return found + LOADING_CSS.findall(text)


class _Loads(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADING.get(tag, ""))
        if address and re.match(r"(https?:)?//", address):
            self.found.append(address)


def on_files(files: Any, config: Any) -> Any:
    """Add the repository's files that pages link to."""
    from mkdocs.structure.files import File, InclusionLevel

    paths = {path for page in files.documentation_pages() for _, path in LINK.findall(page.content_string)}
    for path in sorted(paths):
        if (ROOT / path).is_file():
            picture = Path(path).suffix in PICTURES
            content = {"abs_src_path": str(ROOT / path)} if picture else {"content": source_page(path)}
            level = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, place(path), inclusion=level, **content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links into the repository to the pages made of its files, and put the tables in."""
    if TABLES in markdown:
        tables = [ROOT / "results" / f"{name}.md" for name in SHOWN]
        markdown = markdown.replace(
            TABLES, "\n".join(table.read_text(encoding="utf-8") for table in tables if table.exists())
        )
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(
        lambda link: f"[{link[1]}]({posixpath.relpath(target(link[1], link[2]), folder or '.')})", markdown
    )


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Tell MkDocs, which checks every link, of the numbered lines of a page of source."""
    if page.file.src_uri.startswith("source/"):
        page.present_anchor_ids |= set(re.findall(r'id="(L-0-\d+)"', html))


def on_post_build(config: Any) -> None:
    """Refuse a site that loads anything from another machine."""
    from mkdocs.exceptions import PluginError

    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in {".html", ".css"}:
            for address in foreign(file.read_text(encoding="utf-8"), css=file.suffix == ".css"):
                raise PluginError(f"{file} loads {address}: a reader without a network would miss it")
