# Sourced by the launch scripts: where the tools are, and which Python runs them.
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$TOOLS/../projects${PYTHONPATH:+:$PYTHONPATH}"

# PYTHON if set, else that of the active environment, else that of `make setup`.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON="$TOOLS/../.venv/bin/python"
    fi
fi
