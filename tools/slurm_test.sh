#!/usr/bin/env bash
# Score as a Slurm job: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
# GPUS in all (8), GPUS_PER_NODE (8) and CPUS_PER_TASK (5) say what to ask for, SRUN_ARGS goes to srun.
# PORT is where the processes meet, on the first machine of the job; else one is drawn, as jobs may share machines.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo 'usage: [GPUS=8] tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]' >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
GPUS="${GPUS:-8}"
GPUS_PER_NODE="${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}"
export MASTER_PORT="${PORT:-$((20000 + RANDOM % 10000))}"

# SRUN_ARGS is unquoted: it holds any number of arguments.
exec srun --partition="$1" --job-name="$2" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "$PYTHON" -u "$TOOLS/test.py" "$3" "$4" --launcher slurm "${@:5}"
