"""Score, train and segment with DIT-SAM, on generated data and with the weights of the package.

Usage: python tools/demo.py [--work-dir work_dirs/demo]      (`make demo` sets up and calls it; also `dit-sam demo`)

Every step prints its command before it runs. A step whose result exists is skipped. Data and results go into the
current folder.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dit_sam_cli.files import mim_folder, package_folder, refuse


def shown(path: Path) -> str:
    """A path as a user types it in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


TOOLS = shown(mim_folder() / 'tools')
CONFIG = shown(mim_folder() / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
WEIGHTS = shown(package_folder() / 'assets' / 'ldit_vit-t_shapes.safetensors')
DATA = 'data/shapes'
# The encoders and the mask decoder start from a file, the instruction is new. 150 steps of 8 small pictures, and after
# every 30 a validation on 240 sentences.
TRAINING = """
    model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint={start}
    model.decode_head.init_cfg.type=Pretrained model.decode_head.init_cfg.checkpoint={start}
    model.text_encoder.init_cfg.type=Pretrained model.text_encoder.init_cfg.checkpoint={start}
    model.text_encoder.init_cfg.prefix=text_encoder.
    model.data_preprocessor.size=(64,64)
    train_dataloader.dataset.pipeline.2.scale=(64,64) val_dataloader.dataset.pipeline.1.scale=(64,64)
    train_dataloader.batch_size=8 train_dataloader.dataset.indices=240 val_dataloader.dataset.indices=240
    optim_wrapper.optimizer.lr=1e-4 param_scheduler.0.end=100 param_scheduler.1.end=5 train_cfg.max_epochs=5
    default_hooks.logger.interval=10 val_evaluator.group_by=None randomness.seed=0
"""
# Of a validation, in a log.
SCORES = r'Epoch\(val\).* mIoU'
NEXT = """
What next
  Your own photograph  dit-sam infer PHOTO "zebra top left" --model evf-sam --out OUT   (fetches 2.6 GB once)
  All models           dit-sam list-models
  RefCOCO              README.md, "Training on RefCOCO": images, sentences, SAM's weights, then
                       dit-sam train dit_sam::ldit_vit-b.py --amp
"""


def run(step: str, log: Path | None, command: Sequence[str], shown: str = '') -> None:
    """Run a program of tools/, print the lines of its output that match `shown`, and end this one if it fails.

    The whole output goes to `log` at the end; if that is there, the step is done.
    """
    command = [f'{TOOLS}/{command[0]}', *command[1:]]
    print(f'\n== {step}\n$ python {shlex.join(command)}', flush=True)
    if log is not None and log.exists():
        print(f'   already done: {log}')
        return
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if re.search(shown, line):
            print('   ' + line.rstrip(), flush=True)
    if process.wait():
        sys.exit(''.join(lines[-30:]) + f'\ndemo: "{step}" failed with status {process.returncode}')
    if log is not None:
        log.write_text(''.join(lines))


def report(log: Path) -> str:
    """The table and the line of scores at the end of a test log."""
    lines = log.read_text().split('\n')
    start = max(i for i, line in enumerate(lines) if line.startswith('+--') and not lines[i - 1].startswith('|'))
    return '\n'.join(lines[start:]).rstrip()


def write_start(path: Path) -> None:
    """Write the shipped weights without the instruction."""
    from dit_sam.utils import read_weights, save_weights

    weights = read_weights(WEIGHTS)
    save_weights(str(path), {name: value for name, value in weights.items() if '.instruction.' not in name})


def some_references(number: int) -> list[tuple[str, list[str]]]:
    """Pictures of the validation split, each with a sentence for every object that is referred to."""
    from dit_sam.datasets.reference_files import load_refs

    content = json.loads(Path(DATA, 'shapes/instances.json').read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    sentences: dict[str, list[str]] = {}
    for ref in load_refs(f'{DATA}/shapes/refs(unc).p'):
        if ref['split'] == 'val':
            sentences.setdefault(f'{DATA}/images/{names[ref["image_id"]]}', []).append(ref['sentences'][0]['sent'])
    return list(sentences.items())[:number]


def score(log: Path) -> None:
    """Score the shipped model."""
    run(
        'Test: the small L-DIT of the package on the validation split (half a minute)',
        log,
        ['test.py', CONFIG, WEIGHTS, '--work-dir', str(log.with_suffix(''))],
        SCORES,
    )
    print(report(log))


def train(log: Path, start: Path) -> None:
    """Train the shipped model with a new instruction, from its other weights in `start`, and check that it learns."""
    write_start(start)
    options = [option.format(start=start) for option in TRAINING.split()]
    run(
        'Train: the same model with a new instruction, from the other weights, on small pictures (a minute)',
        log,
        ['train.py', CONFIG, '--work-dir', str(log.with_suffix('')), '--cfg-options', *options],
        rf'Epoch\(train\)|{SCORES}',
    )
    scores = [float(score) for score in re.findall(rf'{SCORES}: ([\d.]+)', log.read_text())]
    if scores[-1] <= scores[0]:
        sys.exit(f'demo: the score did not rise: mIoU {scores[0]:.1f} to {scores[-1]:.1f}; remove {log} to train again')
    print(
        '   At first the image encoder does not see the sentence, only the mask decoder does. As the new instruction\n'
        f'   learned to pass it on, mIoU on 240 validation sentences rose from {scores[0]:.1f} to {scores[-1]:.1f}.'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder for logs and pictures')
    work_dir = Path(parser.parse_args().work_dir)
    pictures = work_dir / 'pictures'
    try:
        pictures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse(f'--work-dir {work_dir} cannot be made: {error.strerror}; name another folder')
    run(
        'Data: drawn pictures, their masks, and sentences with one right answer',
        None,
        f'dataset_converters/shapes.py --out {DATA} --images 2000 --seed 1'.split(),
    )
    score(work_dir / 'test.log')
    train(work_dir / 'train.log', work_dir / 'start.safetensors')
    for image, sentences in some_references(4):
        out = pictures / Path(image).stem
        run(f'Segment {image}', work_dir / f'{out.name}.log', ['infer.py', image, *sentences, '--out', str(out)])
    print(f'\nPictures   {pictures}\nLogs       {work_dir}{NEXT}')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        # 128 + SIGINT, as the shell reports it.
        sys.exit(130)
