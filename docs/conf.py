"""The documentation as a site, by Sphinx: `make site`."""

import re

project = "angular-penalty"
copyright = "2026, the angular-penalty authors"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "angular-penalty"
exclude_patterns = ["_site"]
suppress_warnings = ["myst.header"]  # a page may begin with a heading of any level


def without_files_outside(app, name: str, source: list[str]) -> None:
    """Let links to the README lead to the first page, which shows it, and keep the words of links to
    files that are no pages, as `[head.py](../src/losses/head.py)`."""
    text = source[0].replace("](../README.md", "](index.md")
    source[0] = re.sub(r"\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", text)


def setup(app) -> None:
    app.connect("source-read", without_files_outside)
