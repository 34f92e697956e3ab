"""Links between files of the repository, which work on a code host and on the site.

A page links to another one as ```jobs.rst <../how-to/jobs.rst#celery>`_``; code hosts follow that. Here such
a link becomes a link to the built page, or a download of any other file. A file or a section that does not
exist is a warning, so the link check needs no network. Of addresses on the web only the syntax is checked.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from docutils.utils import get_source_line
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
# Documents at the root, which a page of the site includes.
_INCLUDED = {"README.rst": "readme", "SECURITY.rst": "security"}


def _find_links(app: Sphinx, doctree: nodes.document) -> None:
    """Replace the links of a page that was read."""
    for node in list(doctree.findall(nodes.reference)):
        parts = urlsplit(node.get("refuri", ""))
        if parts.scheme in ("http", "https"):
            if not re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc):
                logger.warning("not an address: %s", node["refuri"], location=node)
        elif parts.path and not parts.scheme:
            _replace(app, node, parts.path, parts.fragment)


def _find_images(app: Sphinx, doctree: nodes.document) -> None:
    """Make the images of an included document relative to its own folder, as its links are."""
    for node in doctree.findall(nodes.image):
        source, _ = get_source_line(node)
        if source and "://" not in node["uri"] and Path(source).name in _INCLUDED:
            target = (Path(source).parent / node["uri"]).resolve()
            node["uri"] = f"/{target.relative_to(app.srcdir).as_posix()}"


def _replace(app: Sphinx, node: Any, path: str, fragment: str) -> None:
    # An included document is the source of its own nodes; its links are relative to its own folder.
    source, _ = get_source_line(node)
    target = (Path(source or app.env.doc2path(app.env.docname)).parent / path).resolve()
    if not target.exists() or not target.is_relative_to(_ROOT):
        logger.warning("no such file: %s", path, location=node)
        return
    name = target.relative_to(_ROOT).as_posix()
    page = _INCLUDED.get(name) or (app.env.path2doc(str(target)) if name.startswith("docs/") else None)
    if page in app.env.found_docs:
        node["page"], node["section"], node["internal"] = page, fragment, True
        del node["refuri"]
    elif target.is_file():
        download = addnodes.download_reference(
            "", "", reftarget=f"/{Path('..', name).as_posix()}", refdoc=app.env.docname
        )
        node.replace_self(download + node.children)
    else:
        node.replace_self(nodes.literal("", name))


def _resolve_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give the links to pages their addresses."""
    for node in doctree.findall(nodes.reference):
        if "page" in node:
            page, section = node["page"], node["section"]
            if section and section not in _sections(app.env, page):
                logger.warning("%s has no section %s", page, section, location=node)
            node["refuri"] = app.builder.get_relative_uri(docname, page) + (f"#{section}" if section else "")


@cache
def _sections(env: BuildEnvironment, page: str) -> frozenset[str]:
    """Return the identifiers of a page's elements."""
    return frozenset(name for node in env.get_doctree(page).findall(nodes.Element) for name in node["ids"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", _find_links)
    # Sphinx collects the images of a page at the same event.
    app.connect("doctree-read", _find_images, priority=100)
    app.connect("doctree-resolved", _resolve_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
