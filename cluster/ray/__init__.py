"""Ray at the edge: nothing outside this folder (and job submission) imports it."""

import os

os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
"""Else whoever asks Ray something once it is gone, or not there yet, is connected with any that runs on the machine."""
