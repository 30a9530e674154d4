"""One script a claim; each runs both sides interleaved in one process and prints a ratio."""
