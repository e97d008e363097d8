"""Addresses that may be shown: passwords in them are for servers alone.

It needs no framework: the command line shows addresses where one is broken.
"""

import urllib.parse


def without_password(url):
    """An address, and what stood in front of its host.

    Example:

    >>> without_password("https://user:secret@example.org/files")
    ('https://example.org/files', 'user:secret')

    Args:
        url: Address, or any other text.

    Returns:
        A pair of strings, of which the second is empty where there is nothing.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        # No address that anything could be asked of.
        return url.rpartition("@")[2], ""
    secret, _, host = parts.netloc.rpartition("@")
    if not secret:
        return url, ""
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), secret
