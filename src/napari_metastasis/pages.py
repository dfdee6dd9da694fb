"""HTML pages from templates that lie beside the code that fills them; every value is escaped."""

from __future__ import annotations

from typing import Any

__all__ = ["page"]


def page(package: str, template: str, **values: Any) -> str:
    """Return a page.

    Parameters
    ----------
    package
        The package that the template lies in.
    template
        Name of its file.
    values
        What the template names; whatever it names has to be among them.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template(template).render(**values)
