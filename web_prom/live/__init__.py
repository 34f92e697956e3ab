"""The live page: snapshots of the merged metrics as JSON, their history, and a page that draws them."""
