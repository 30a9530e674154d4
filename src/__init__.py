"""A sweeper for angular penalty (margin) softmax losses; `python -m src.train` is the way in."""
