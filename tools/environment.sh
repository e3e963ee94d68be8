# Sourced by the launch scripts: where the tools are, which Python runs them, and how processes are started.
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$TOOLS/../projects${PYTHONPATH:+:$PYTHONPATH}"

# PYTHON if set, else that of the active environment, else that of `make setup`.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON="$TOOLS/../.venv/bin/python"
    fi
fi

# Seconds for which torchrun (torch 2.13 or newer; before, always 30) lets its ranks save after a signal to itself, before
# it kills them: 12 GiB, as for ViT-H, take two minutes at 100 MB/s. If a rank dies by itself, the others on its machine
# still have 30 s, so this delays only the end of a training that hangs when it is signaled.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}"

# torchrun GPUS PROGRAM...: GPUS processes on each of NNODES machines. With NODE_RANK the machines are numbered by hand;
# without it they meet at MASTER_ADDR:PORT and number themselves, and the command is the same on all of them.
torchrun() {
    local address="${MASTER_ADDR:-127.0.0.1}" port="${PORT:-29500}"
    local meeting=(--node-rank="${NODE_RANK:-0}" --master-addr="$address" --master-port="$port")
    if [ "${NNODES:-1}" -gt 1 ] && [ -z "${NODE_RANK:-}" ]; then
        meeting=(--rdzv-backend=c10d --rdzv-endpoint="$address:$port" --rdzv-id="${RDZV_ID:-dit_sam}")
    fi
    exec "$PYTHON" -m torch.distributed.run --nnodes="${NNODES:-1}" "${meeting[@]}" --nproc-per-node="$1" "${@:2}"
}

# slurm PARTITION JOB_NAME PROGRAM...: GPUS processes in all. SRUN_ARGS is unquoted: it holds any number of arguments.
# PORT is where the processes meet on the first machine; jobs may share machines, so each draws a port if it is unset.
slurm() {
    local gpus="${GPUS:-8}"
    local per_node="${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}"
    export MASTER_PORT="${PORT:-$((20000 + RANDOM % 10000))}"
    exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} "$PYTHON" -u "${@:3}"
}
