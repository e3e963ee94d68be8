"""What a training leaves in its folder: a note of what it is, weights, times and its curve."""

import hashlib
import json
import subprocess
from itertools import chain
from pathlib import Path
from statistics import mean, median

import torch
from comparison_results import read_note
from workspace import ROOT

from dit_sam.errors import InputError
from dit_sam.utils import atomic_write, atomic_write_text, read_checkpoint, weights_of

TRAINING = 'training.json'


def check_training(work_dir: Path, facts: dict) -> None:
    """Note what a training is before it starts, or check that the one in its folder is the same.

    Raises:
        InputError: It is another one, or the note is damaged.
    """
    file = work_dir / TRAINING
    if not file.exists():
        if any(work_dir.glob('*.pth')):
            raise InputError(f'{file} is missing: move {work_dir} away, and the next run trains it again')
        work_dir.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, as_lines(dict(facts, parts=[])))
    noted = read_note(file, f'move {work_dir} away, and the next run trains it again')
    for key, value in json.loads(json.dumps(facts)).items():
        if noted.get(key) != value:
            raise InputError(
                f'{work_dir} holds a training with {key}={noted.get(key)}, not {value}: move it away, and the next run '
                'trains it again'
            )


def note_part(work_dir: Path, **facts: object) -> None:
    """Note that a training starts or continues: with which commit of the code, and with which of the facts."""
    describe = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    found = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    file = work_dir / TRAINING
    noted, part = json.loads(file.read_text()), dict(commit=found.stdout.strip() or 'unknown', **facts)
    if part not in noted['parts']:
        atomic_write_text(file, as_lines(noted | dict(parts=[*noted['parts'], part])))


def as_lines(values: dict) -> str:
    """JSON with a line for each key."""
    return '{\n' + ',\n'.join(f' {json.dumps(key)}: {json.dumps(value)}' for key, value in values.items()) + '\n}\n'


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


def fingerprint(checkpoint: str | Path) -> str:
    """The SHA-256 of the names and bytes of a checkpoint's weights, in the order of the names."""
    weights, digest = weights_of(read_checkpoint(str(checkpoint))), hashlib.sha256()
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
    """Commits, arithmetic, times and curve of a training, from its note and its logs.

    `training_iou` is the mean IoU in training, in percent, in each of 32 parts of equal length.

    Raises:
        InputError: Its notes or logs are missing or damaged.
    """
    remedy = f'move {work_dir} away, and the next run trains it again'
    noted = read_note(work_dir / TRAINING, remedy).get('parts')
    logs = [path.read_text().splitlines() for path in sorted(work_dir.glob('*/vis_data/scalars.json'))]
    # A resumed training logs some steps again.
    steps = {entry['step']: entry for entry in map(_read_line, chain.from_iterable(logs)) if entry}
    entries = [steps[step] for step in sorted(steps)]
    times, ious = ([entry[key] for entry in entries if key in entry] for key in ('time', 'decode.mean_iou'))
    if not times or not noted:
        raise InputError(f'the logs in {work_dir} are missing: {remedy}')
    parts = [ious[i * len(ious) // 32 : (i + 1) * len(ious) // 32] for i in range(32)]
    commits = list(dict.fromkeys(part['commit'] for part in noted))
    arithmetics = {part['bfloat16'] for part in noted}
    return dict(
        jobs=noted[-1]['jobs'],
        bfloat16=arithmetics.pop() if len(arithmetics) == 1 else 'partly',
        commit=commits[0],
        **(dict(resumed_with=commits[1:]) if commits[1:] else {}),
        seconds_per_step=round(median(times), 3),
        training_minutes=round(mean(times) * max(steps) / 60, 1),
        training_iou=[round(mean(part), 1) for part in parts if part],
    )
