"""What a training leaves in its folder: weights, the commits of its code, times and its curve."""

import hashlib
import json
import subprocess
from itertools import chain
from pathlib import Path
from statistics import mean, median

import torch

from dit_sam.utils import atomic_write, atomic_write_text, read_checkpoint, weights_of

ROOT = Path(__file__).resolve().parents[1]
COMMITS = 'commits.txt'


def note_commit(work_dir: Path) -> None:
    """Add the commit of the code to those with which a training ran, the first one first."""
    describe = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    found = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    commit, file = found.stdout.strip() or 'unknown', work_dir / COMMITS
    before = file.read_text().split() if file.exists() else []
    if commit not in before:
        work_dir.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, '\n'.join([*before, commit]) + '\n')


def weights_to_score(checkpoint: Path, averaged: bool) -> Path:
    """A checkpoint with the averaged or the last weights: one of EMAHook has both, the average as its weights.

    Raises:
        RuntimeError: The average is asked for, and the training was one without EMAHook.
    """
    content = read_checkpoint(str(checkpoint))
    last = content.pop('ema_state_dict', None)
    if averaged and last is None:
        folder = checkpoint.parent
        raise RuntimeError(f'{folder} has no averaged weights: move it away, and the next run trains it again')
    if averaged or last is None:
        return checkpoint
    content['state_dict'] |= {name.removeprefix('module.'): last[name] for name in last if name != 'steps'}
    path = checkpoint.with_name(f'{checkpoint.stem}_last.pth')
    with atomic_write(path) as temporary:
        torch.save({key: content[key] for key in ('meta', 'state_dict')}, temporary)
    return path


def fingerprint(checkpoint: str) -> str:
    """The SHA-256 of the names and bytes of a checkpoint's weights, in the order of the names."""
    weights, digest = weights_of(read_checkpoint(checkpoint)), hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_line(line: str) -> dict:
    """An entry of a log; empty for a line that a kill has cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return {}


def about_training(work_dir: Path) -> dict:
    """Commits, times and curve of a training, from its logs.

    `training_iou` is the mean IoU in training, in percent, in each of 32 parts of equal length.
    """
    logs = [path.read_text().splitlines() for path in sorted(work_dir.glob('*/vis_data/scalars.json'))]
    # A resumed training logs some steps again.
    steps = {entry['step']: entry for entry in map(_read_line, chain.from_iterable(logs)) if entry}
    entries = [steps[step] for step in sorted(steps)]
    times, ious = ([entry[key] for entry in entries if key in entry] for key in ('time', 'decode.mean_iou'))
    parts = [ious[i * len(ious) // 32 : (i + 1) * len(ious) // 32] for i in range(32)]
    commit, *later = (work_dir / COMMITS).read_text().split()
    return dict(
        commit=commit,
        **(dict(resumed_with=later) if later else {}),
        seconds_per_step=round(median(times), 3),
        training_minutes=round(mean(times) * max(steps) / 60, 1),
        training_iou=[round(mean(part), 1) for part in parts if part],
    )
