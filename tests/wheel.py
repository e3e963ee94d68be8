"""Use an installed wheel as README.md says, outside of the checkout: ``make test-wheel``.

Run it with the Python of an environment that ``tools/setup_environment.py --wheel`` made. It works in a new folder,
prints every command, and stops at the first that fails.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parents[1] / 'README.md'
BIN = Path(sys.executable).parent
CONFIG = """_base_ = 'dit_sam::dit_sam/ldit_vit-t_shapes.py'
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=8, dataset=dict(indices=32))
val_dataloader = dict(dataset=dict(indices=16))
test_dataloader = dict(dataset=dict(indices=16))
"""
HUB = """
import sys
import dit_sam, mmengine.hub
from mmengine.config import Config
assert dit_sam.__file__.startswith(sys.prefix), dit_sam.__file__
name = 'dit_sam::dit_sam/ldit_vit-b.py'
assert mmengine.hub.get_config(name).model.type == 'ReferringSegmentor'
assert Config.fromfile('mine.py').train_dataloader.batch_size == 8
model = mmengine.hub.get_model('dit_sam::dit_sam/ldit_vit-t_shapes.py')
print(type(model).__name__, sum(weight.numel() for weight in model.parameters()))
"""


def call(*command: str, show: int = 3) -> None:
    """Run a command of the environment, and print the end of its output."""
    shown = [Path(command[0]).name, *command[1:]]
    print(f'$ {shlex.join(shown) if len(shlex.join(shown)) < 200 else shown[0] + " …"}', flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = done.stdout.splitlines()
    print(*(f'    {line}' for line in (lines[-40:] if done.returncode else lines[-show:])), sep='\n', flush=True)
    if done.returncode:
        sys.exit(f'test-wheel: {shown[0]} ended with status {done.returncode}')


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix='dit_sam_wheel_'))
    os.chdir(folder)
    # Nothing of the checkout.
    os.environ.pop('PYTHONPATH', None)
    dit_sam, python = str(BIN / 'dit-sam'), sys.executable
    call(dit_sam, '--help', show=9)
    call(dit_sam, 'list-models', show=4)
    call(dit_sam, 'demo', show=30)
    picture = 'data/shapes/images/shapes_000001.png'
    call(dit_sam, 'infer', picture, 'the leftmost shape', '--out', 'work_dirs/mine')
    Path('mine.py').write_text(CONFIG)
    call(dit_sam, 'train', 'mine.py')
    call(dit_sam, 'test', 'mine.py', 'work_dirs/mine/epoch_1.pth')
    short = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=32', 'val_dataloader.dataset.indices=16']
    call(dit_sam, 'train', 'dit_sam::ldit_vit-t_shapes.py', '--cfg-options', *short)
    call(python, '-c', HUB)
    (lines,) = re.findall(r'^In Python:\n\n```python\n(.*?)```', README.read_text(), re.DOTALL | re.MULTILINE)
    call(python, '-c', f'{lines}\nprint(result["predictions"][0])')
    print(f'test-wheel: passed; pictures are in {folder}/work_dirs/demo/pictures and {folder}/work_dirs/mine')


if __name__ == '__main__':
    main()
