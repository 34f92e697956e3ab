"""docs/how-to/servers.rst shows the files that the tests of the servers run."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.manifests import named

ROOT = Path(__file__).parents[1]
SERVERS = ROOT / "examples" / "servers"
SHOWN = [SERVERS / name for name in ("uwsgi.ini", "apache.conf", "shop.wsgi")]


@named(SHOWN)
def test_page_shows_the_whole_file(path: Path) -> None:
    """As it stands."""
    page = (ROOT / "docs" / "how-to" / "servers.rst").read_text("utf-8")
    assert textwrap.indent(path.read_text("utf-8"), "    ") in page
