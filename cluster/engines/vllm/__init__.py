"""vLLM, in this process or through its server: engine, experts, routing."""
