#!/usr/bin/env bash
# Score with GPUS processes on this machine: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Several machines: run it on each with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo 'usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$3" \
    "$TOOLS/test.py" "$1" "$2" --launcher pytorch "${@:4}"
