#!/usr/bin/env bash
# Shows on a machine with a GPU what no other machine can: sleep and wake, a fraction of a GPU, quantised weights, and the
# share of bare vLLM's speed that a pipeline gets. Usage: infra/gpu/smoke.sh [MODEL] [QUANTISED_MODEL]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

model="${1:-Qwen/Qwen3-0.6B}"
quantised="${2:-}"

if ! command -v nvidia-smi >/dev/null; then
  echo "infra/gpu/smoke.sh: there is no NVIDIA GPU here (no nvidia-smi)" >&2
  exit 2
fi
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
python3 -m infra.gpu.smoke "$model" ${quantised:+"$quantised"}
python3 -m tests.benchmarks.engine_share --engine vllm --model "$model" --samples 500
