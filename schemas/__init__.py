"""What flows: row contracts, identities, engine and job specifications, errors."""

from importlib.metadata import PackageNotFoundError, version

from schemas import moved

try:
    __version__ = version("gristmill")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

moved.install()
