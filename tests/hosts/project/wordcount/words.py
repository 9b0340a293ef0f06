"""A helper of the project, in a module of its own."""

import io
import tokenize


def names(text):
    """Yield the names in a file of Python source."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield token.string
    except (tokenize.TokenError, SyntaxError):
        return
