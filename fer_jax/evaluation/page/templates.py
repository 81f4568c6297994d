"""The templates of pages: what they are given is escaped, and a name that they are not given is an error."""

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Return the environment of the templates that lie in the folder of `package`."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
