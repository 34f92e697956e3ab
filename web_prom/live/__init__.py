"""The live page: snapshots of the merged metrics as JSON, their history, and a page that draws them."""

from web_prom.live.taking import remote_source, take_snapshot
from web_prom.live.text_samples import TextFormatError

__all__ = ["TextFormatError", "remote_source", "take_snapshot"]
