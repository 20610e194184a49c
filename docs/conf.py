"""Sphinx configuration; ``make docs`` builds the site into ``docs/_build/html``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx_gallery.sorting import ExplicitOrder

from titans_seq import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # leave idle cores to other tutorials

project = "titans-seq"
author = "the authors of titans-seq"
copyright = author
version = release = __version__
language = "en"
smartquotes = False  # they would turn the -- of options into dashes

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "formulas",
]
exclude_patterns = ["_build", "extensions"]
templates_path = ["_templates"]

# -- Pages ------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

# -- Reference --------------------------------------------------------------------------------

add_module_names = False
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Members inherited from our own classes; extensions/docstrings.py removes those of other packages.
autodoc_default_options = {"inherited-members": True}
numpydoc_show_class_members = False
# extensions/docstrings.py turns this section into notes before numpydoc parses the docstring.
warnings.filterwarnings("ignore", message="Unknown section Shapes")
numpydoc_use_plots = False
viewcode_line_numbers = True

# -- Tutorials --------------------------------------------------------------------------------

EXAMPLES = "../examples"
TUTORIALS = {
    "forecasting": ["first_forecast.py", "stream_and_adapt.py", "anomalies.py"],
    "dna": ["first_classifier.py", "long_record.py"],
    "memory": ["memory_layer.py", "recall.py"],
}
sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": EXAMPLES,
    "gallery_dirs": "tutorials",
    "filename_pattern": r"\.py$",
    "subsection_order": ExplicitOrder([f"{EXAMPLES}/{folder}" for folder in TUTORIALS]),
    "within_subsection_order": ExplicitOrder(
        [name for names in TUTORIALS.values() for name in names]
    ),
    "image_scrapers": ["figures.figures"],
    "image_srcset": [],
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "reference_url": {},
    "copyfile_regex": r".^",
}

# -- Theme ------------------------------------------------------------------------------------

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "titans-seq"
html_static_path = ["_static"]
html_css_files = ["titans.css"]
html_favicon = "_static/mark.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {
        "text": "titans-seq",
        "image_light": "_static/mark.svg",
        "image_dark": "_static/mark.svg",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"index": [], "**": ["page-toc"]},
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars: dict[str, list[str]] = {"index": [], "start": [], "changes": []}


def link_benchmarks_page(app: Sphinx, name: str, text: list[str]) -> None:
    """Point links to ``benchmarks/README.md`` at the site's copy of that page."""
    text[0] = text[0].replace("](../benchmarks/README.md", "](benchmarks.md")


def setup(app: Sphinx) -> None:
    """Connect the handler."""
    app.connect("source-read", link_benchmarks_page)
