"""See DIT-SAM score, train and segment, on data made here and with the weights that come with the repository.

Usage: python tools/demo.py [--work-dir work_dirs/demo]      (`make demo` sets up and calls it)

Every step is a command that is printed before it runs; a step whose result is there already is not run again.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/dit_sam/ldit_vit-t_shapes.py'
WEIGHTS = 'projects/dit_sam/assets/ldit_vit-t_shapes.safetensors'
DATA = 'data/shapes'
NEXT = """
What next
  Your own pictures    python tools/infer.py PICTURE "the small red star" --out OUT
  The tests            make test
  RefCOCO              README.md, "Training on RefCOCO": images, sentences, SAM's weights, then
                       tools/dist_train.sh configs/dit_sam/ldit_vit-h.py 8 --amp
"""


def run(step: str, done: Path | None, *command: str, log: Path | None = None) -> None:
    """Run a command from the repository's root unless `done` is there; end the program if it fails."""
    print(f'\n== {step}\n$ {shlex.join(("python", *command))}', flush=True)
    if done is not None and done.exists():
        print(f'   done before: {done.relative_to(ROOT) if done.is_relative_to(ROOT) else done}')
        return
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if log is None or 'Epoch(train)' in line:
            print('   ' + line.rstrip(), flush=True)
    if process.wait():
        sys.exit(''.join(lines[-30:]) + f'\ndemo: "{step}" failed with status {process.returncode}')
    if log is not None:
        log.write_text(''.join(lines))


def report(log: Path) -> str:
    """The table and the line of scores with which a test log ends."""
    lines = log.read_text().split('\n')
    start = max(i for i, line in enumerate(lines) if line.startswith('+--') and not lines[i - 1].startswith('|'))
    return '\n'.join(lines[start:]).rstrip()


def losses(train_dir: Path) -> list[float]:
    """The losses that training logged, in order."""
    newest = max(train_dir.glob('*/vis_data/scalars.json'))
    with newest.open() as file:
        records = [json.loads(line) for line in file]
    return [record['loss'] for record in records if 'loss' in record]


def some_references(number: int) -> list[tuple[str, list[str]]]:
    """Pictures of the validation split, each with a sentence for every object that is referred to."""
    from dit_sam.datasets.reference_files import load_refs

    names = {
        image['id']: image['file_name']
        for image in json.loads((ROOT / DATA / 'shapes/instances.json').read_text())['images']
    }
    sentences = {}
    for ref in load_refs(str(ROOT / DATA / 'shapes/refs(unc).p')):
        if ref['split'] == 'val':
            sentences.setdefault(f'{DATA}/images/{names[ref["image_id"]]}', []).append(ref['sentences'][0]['sent'])
    return list(sentences.items())[:number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/demo', help='where logs and pictures go')
    work_dir = ROOT / parser.parse_args().work_dir
    work_dir.mkdir(parents=True, exist_ok=True)

    run(
        'Data: drawn pictures, their masks, and sentences with one right answer',
        None,
        'tools/dataset_converters/shapes.py',
        '--out',
        DATA,
        '--images',
        '2000',
        '--seed',
        '1',
    )

    test_log = work_dir / 'test.log'
    run(
        'Test: the small L-DIT that comes with the repository, on the validation split (half a minute)',
        test_log,
        'tools/test.py',
        CONFIG,
        WEIGHTS,
        '--work-dir',
        str(work_dir / 'test'),
        log=test_log,
    )
    print(report(test_log))

    train_log = work_dir / 'train.log'
    run(
        'Train: the same config from random weights, coarser patches, 100 steps (a minute or two)',
        train_log,
        'tools/train.py',
        CONFIG,
        '--work-dir',
        str(work_dir / 'train'),
        '--cfg-options',
        'train_dataloader.dataset.indices=3200',
        'model.backbone.patch_size=16',
        'train_cfg.max_epochs=1',
        'train_cfg.val_begin=2',
        'default_hooks.logger.interval=10',
        log=train_log,
    )
    curve = losses(work_dir / 'train')
    if curve[-1] >= curve[0]:
        sys.exit(f'demo: the loss did not fall: {curve[0]:.3f} to {curve[-1]:.3f}')
    print(f'   the loss fell from {curve[0]:.3f} to {curve[-1]:.3f}; it goes on falling with the whole schedule')

    overlays = work_dir / 'pictures'
    for image, sentences in some_references(4):
        run(
            f'Segment {image}',
            overlays / Path(image).stem,
            'tools/infer.py',
            image,
            *sentences,
            '--out',
            str(overlays / Path(image).stem),
        )

    print(f'\nPictures   {overlays}\nLogs       {work_dir}{NEXT}')


if __name__ == '__main__':
    main()
