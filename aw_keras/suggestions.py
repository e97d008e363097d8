"""What someone may have meant by a name that there is not."""

import difflib


def did_you_mean(name, known):
    """A question to end a message with.

    Args:
        name: The name that was given.
        known: Iterable of the names that there are.

    Returns:
        `"; did you mean A or B?"`, the most alike first, whatever their case;
        nothing if none is like it.
    """
    names = {key.lower(): key for key in known}
    close = difflib.get_close_matches(str(name).lower(), names, n=3)
    found = " or ".join(names[key] for key in close)
    return f"; did you mean {found}?" if found else ""
