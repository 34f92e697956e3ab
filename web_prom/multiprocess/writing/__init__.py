"""Writing values to the files of this process's slot."""
