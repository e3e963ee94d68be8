#!/usr/bin/env bash
# Train as a Slurm job: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8) and CPUS_PER_TASK (5) set the resources; SRUN_ARGS is passed to srun, PORT to the processes.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo 'usage: [GPUS=8] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

slurm "$1" "$2" "$TOOLS/train.py" "$3" --launcher slurm "${@:4}"
