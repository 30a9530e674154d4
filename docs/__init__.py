"""Figures of the documentation, made from the code itself."""
