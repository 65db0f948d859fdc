"""What flows: row contracts, identities, engine and job specifications, errors."""

from schemas import moved

__version__ = "0.2.0"

moved.install()
