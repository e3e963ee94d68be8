#!/usr/bin/env bash
# Score with GPUS processes on this machine: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Several machines: run it on each with NNODES and MASTER_ADDR set; see docs/distributed.md.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo 'usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

torchrun "$3" "$TOOLS/test.py" "$1" "$2" --launcher pytorch "${@:4}"
