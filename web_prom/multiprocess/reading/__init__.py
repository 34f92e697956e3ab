"""Reading and merging of the value files of all workers."""
