#!/usr/bin/env bash
# Train with GPUS processes on this machine: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: run it on each with NNODES and MASTER_ADDR set; see docs/distributed.md.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo 'usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

torchrun "$2" "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
