"""What flows: row contracts, identities, engine and job specifications, errors."""

from schemas import moved

__version__ = "0.1.0"

moved.install()
