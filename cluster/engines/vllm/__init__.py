"""vLLM, in this process or through its server: engine, experts, routing."""

from schemas.moved import names

__getattr__ = names(
    "cluster.engines.vllm",
    {
        "VllmEngine": "cluster.engines.vllm.engine",
    },
)
