"""Score, train and segment with DIT-SAM, on generated data and with the weights of the repository.

Usage: python tools/demo.py [--work-dir work_dirs/demo]      (`make demo` sets up and calls it)

Every step prints its command before it runs. A step whose result exists is skipped.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/dit_sam/ldit_vit-t_shapes.py'
WEIGHTS = 'projects/dit_sam/assets/ldit_vit-t_shapes.safetensors'
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
NEXT = """
What next
  Your own pictures    python tools/infer.py PICTURE "the small red star" --out OUT
  The tests            make test
  RefCOCO              README.md, "Training on RefCOCO": images, sentences, SAM's weights, then
                       tools/dist_train.sh configs/dit_sam/ldit_vit-h.py 8 --amp
"""


def run(step: str, done: Path | None, command: str, log: Path | None = None) -> None:
    """Run a command from the repository's root unless `done` is there; end the program if it fails."""
    print(f'\n== {step}\n$ python {command}', flush=True)
    if done is not None and done.exists():
        print(f'   already done: {done.relative_to(ROOT) if done.is_relative_to(ROOT) else done}')
        return
    process = subprocess.Popen(
        [sys.executable, *shlex.split(command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if log is None or re.search(r'Epoch\(train\)|Epoch\(val\).* mIoU', line):
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

    weights = read_weights(str(ROOT / WEIGHTS))
    save_weights(str(path), {name: value for name, value in weights.items() if '.instruction.' not in name})


def some_references(number: int) -> list[tuple[str, list[str]]]:
    """Pictures of the validation split, each with a sentence for every object that is referred to."""
    from dit_sam.datasets.reference_files import load_refs

    content = json.loads((ROOT / DATA / 'shapes/instances.json').read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    sentences: dict[str, list[str]] = {}
    for ref in load_refs(str(ROOT / DATA / 'shapes/refs(unc).p')):
        if ref['split'] == 'val':
            sentences.setdefault(f'{DATA}/images/{names[ref["image_id"]]}', []).append(ref['sentences'][0]['sent'])
    return list(sentences.items())[:number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder for logs and pictures')
    work_dir = ROOT / parser.parse_args().work_dir
    work_dir.mkdir(parents=True, exist_ok=True)
    folder = shlex.quote(str(work_dir))
    test_log, train_log, start, pictures = (
        work_dir / name for name in ('test.log', 'train.log', 'start.safetensors', 'pictures')
    )
    run(
        'Data: drawn pictures, their masks, and sentences with one right answer',
        None,
        f'tools/dataset_converters/shapes.py --out {DATA} --images 2000 --seed 1',
    )
    run(
        'Test: the small L-DIT of the repository on the validation split (half a minute)',
        test_log,
        f'tools/test.py {CONFIG} {WEIGHTS} --work-dir {folder}/test',
        log=test_log,
    )
    print(report(test_log))
    write_start(start)
    options = ' '.join(TRAINING.format(start=shlex.quote(str(start))).split())
    run(
        'Train: the same model with a new instruction, from the other weights, on small pictures (a minute)',
        train_log,
        f'tools/train.py {CONFIG} --work-dir {folder}/train --cfg-options {options}',
        log=train_log,
    )
    scores = [float(score) for score in re.findall(r'Epoch\(val\).* mIoU: ([\d.]+)', train_log.read_text())]
    if scores[-1] <= scores[0]:
        sys.exit(f'demo: the score did not rise: mIoU {scores[0]:.1f} to {scores[-1]:.1f}')
    print(
        '   At first the image encoder does not see the sentence, only the mask decoder does. As the new instruction\n'
        f'   learned to pass it on, mIoU on 240 validation sentences rose from {scores[0]:.1f} to {scores[-1]:.1f}.'
    )
    for image, sentences in some_references(4):
        out = pictures / Path(image).stem
        run(f'Segment {image}', out, shlex.join(['tools/infer.py', image, *sentences, '--out', str(out)]))
    print(f'\nPictures   {pictures}\nLogs       {work_dir}{NEXT}')


if __name__ == '__main__':
    main()
