"""What several names have in common, so that it can be said once instead of in each."""


def split_shared(names: list[str], separator: str = " ") -> tuple[str, list[str]]:
    """What all names have in common, part by part, and what is left of each. A name of which nothing
    would be left, or a single one, stays whole."""
    parts = [name.split(separator) for name in names]
    common = [part for part in parts[0] if all(part in others for others in parts)] if parts else []
    rests = [[part for part in own if part not in common] for own in parts]
    if len(names) < 2 or not all(rests):
        return "", list(names)
    return separator.join(dict.fromkeys(common)), [separator.join(rest) for rest in rests]
