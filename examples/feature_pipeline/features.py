"""What the feature pipeline and the demo compute of one file of Python source."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path


def read(path):
    return Path(path).read_text(encoding="utf-8", errors="replace")


def words(text):
    """Count the names in a source text."""
    counts = Counter()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and len(token.string) > 3:
                counts[token.string] += 1
    except (tokenize.TokenError, SyntaxError):
        pass
    return counts


def syntax(text):
    """Count the kinds of syntax in a source text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return Counter()
    return Counter(type(node).__name__ for node in ast.walk(tree))


def features(text):
    return {"words": dict(words(text)), "syntax": dict(syntax(text)), "lines": text.count("\n")}
