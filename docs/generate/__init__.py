"""The generator of the reference pages; not a part of the package."""
