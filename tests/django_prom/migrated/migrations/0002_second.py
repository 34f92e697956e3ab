from __future__ import annotations

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):  # type: ignore[misc]
    dependencies: ClassVar[list[tuple[str, str]]] = [("migrated", "0001_initial")]
    replaces: ClassVar[list[tuple[str, str]]] = []
