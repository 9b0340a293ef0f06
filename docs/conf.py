"""How the documentation is built: Sphinx, MyST, furo, numpydoc."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from jobspan import __version__

project = "jobspan"
author = "the jobspan developers"
copyright = f"2026, {author}"
release = __version__
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# A notebook is shown as it was executed; a test executes it anew.
nb_execution_mode = "off"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's Parameters sections tell the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
default_role = "code"

# Other projects' inventories are no part of a build that must work offline.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}

pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"jobspan {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#2f55c4",
        "color-brand-content": "#2f55c4",
    },
    "dark_css_variables": {
        "color-brand-primary": "#8faaf5",
        "color-brand-content": "#8faaf5",
    },
}
