"""Any server that speaks OpenAI's API: requests, scores, and how many at once it takes."""

from schemas.moved import names

__getattr__ = names(
    "cluster.engines.openai",
    {
        "OpenAIEngine": "cluster.engines.openai.engine",
    },
)
