"""What the tests of the converters share."""
import runpy
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from dit_sam.utils import StateDictMap
from dit_sam.utils.conversion import sam_on_meta

ROOT = Path(__file__).parents[2]


def convert(tool: str, *arguments) -> None:
    """Run a converter in this process; it saves the seconds that the imports of a process of its own take."""
    with mock.patch('sys.argv', [tool, *map(str, arguments)]):
        runpy.run_path(str(ROOT / 'tools' / 'model_converters' / f'{tool}.py'), run_name='__main__')


def error_of(capsys, tool: str, *arguments) -> str:
    """The line with which a converter ends."""
    with pytest.raises(SystemExit) as exit:
        convert(tool, *arguments)
    assert exit.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: ')
    return line[len('error: '):]


def randomise(module: nn.Module) -> nn.Module:
    """Random weights among which every one matters and no softmax is a choice of one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            table = parameter.dim() == 1 or 'pos' in name or 'token' in name or 'embed.' in name
            scale = 0.1 if table and 'patch_embed' not in name else 0.5 * parameter[0].numel()**-0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def assert_equal(actual: dict, expected: dict) -> None:
    """Bit by bit."""
    assert actual.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(actual[name], value)] == []


def hollow(layout: StateDictMap, arch: str = 'base') -> dict[str, Tensor]:
    """SAM by all its names and shapes in a file of a few kilobytes: every tensor is one zero, many times."""
    return {name: torch.zeros(1).expand(value.shape) for name, value in layout.to_theirs(sam_on_meta(arch)).items()}


def save(folder: Path, weights: dict, name: str = 'theirs.pth') -> Path:
    torch.save(weights, folder / name)
    return folder / name


def untouched(folder: Path, *names: str) -> bool:
    """Whether there are these files alone: nothing was written."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)
