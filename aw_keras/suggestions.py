"""What someone may have meant by a name that there is not."""

import difflib


def did_you_mean(name, known):
    """A question to end a message with.

    Args:
        name: The name that was given.
        known: Collection of the names that there are.

    Returns:
        `"; did you mean A or B?"`, the most alike first, whatever their case;
        nothing if none is like it, or the name is right.
    """
    if name in known:
        return ""
    lower, names = str(name).lower(), {key.lower(): key for key in known}
    close = [lower] if lower in names else []
    close = close or difflib.get_close_matches(lower, names, n=3)
    found = " or ".join(names[key] for key in close)
    return f"; did you mean {found}?" if found else ""
