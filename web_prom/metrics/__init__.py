"""What is recorded: metric families, label rules, and the recording of one request."""
