"""How Sphinx builds the documentation site: ``make docs`` writes it to build/docs."""

from __future__ import annotations

import sys
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import inventories  # noqa: E402

_metadata = ConfigParser()
_metadata.read(HERE.parent / "setup.cfg", "utf-8")

project = "web-prom"
release = version = _metadata["metadata"]["version"]
author = "the authors of web-prom"
project_copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "generated_reference",
    "internal_names",
    "repository_links",
]
exclude_patterns = ["_ext", "inventories"]
html_theme = "furo"
html_title = f"web-prom {release}"
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True}

# No network: the names that the pages refer to are kept in inventories/*.txt.
intersphinx_mapping = inventories.mapping(HERE / "inventories", HERE.parent / "build" / "inventories")

nitpicky = True
nitpick_ignore_regex = [
    # prometheus_client's documentation publishes no inventory.
    (r"py:.*", r"prometheus_client\..*"),
    (r"py:.*", r"(CollectorRegistry|Collector|REGISTRY)"),
]

suppress_warnings = [
    # The lexer of PromQL does not accept names with colons, which recording rules have.
    "misc.highlighting_failure",
]
