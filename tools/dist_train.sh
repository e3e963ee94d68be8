#!/usr/bin/env bash
# Train with GPUS processes on this machine: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo 'usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$2" \
    "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
