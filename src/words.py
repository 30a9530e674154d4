"""Numbers in sentences."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `2 seeds`, `1,200 classes`; `plural` where it is more than an s, or an es after an s."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun if number == 1 else plural or noun + ending}"
