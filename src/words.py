"""Numbers and errors in sentences, and values in file names."""

import re


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `2 seeds`, `1,200 classes`; `plural` where it is more than an s, or an es after an s."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun if number == 1 else plural or noun + ending}"


def file_name(text: str) -> str:
    """A text as a part of a file's name: `_` for what could lead to another folder, or needs quotes."""
    return re.sub(r"[^\w.+-]", "_", text)


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type's name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
