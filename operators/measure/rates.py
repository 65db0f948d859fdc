"""The grid of success rates on which all distributions of difficulty are, from 1e-6 to .98."""

from __future__ import annotations

import numpy as np

from schemas.later import Floats

LOGITS: Floats = np.linspace(-13.8, 3.9, 96)
RATES: Floats = 1.0 / (1.0 + np.exp(-LOGITS))
LOG_RATE: Floats = np.log(RATES)
LOG_MISS: Floats = np.log1p(-RATES)
