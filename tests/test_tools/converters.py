"""What the tests of the converters share."""

from functools import cache
from pathlib import Path

import torch
from processes import call_tool
from torch import Tensor, nn

from dit_sam.models.weights import StateDictMap
from dit_sam.models.weights.conversion import sam_on_meta


def convert(tool: str, *arguments) -> None:
    """Run a converter that succeeds."""
    assert call_tool(f'model_converters/{tool}.py', *arguments) == 0


def randomize(module: nn.Module) -> nn.Module:
    """Random weights among which every one matters and no softmax is a choice of one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            table = parameter.dim() == 1 or 'pos' in name or 'token' in name or 'embed.' in name
            scale = 0.1 if table and 'patch_embed' not in name else 0.5 * parameter[0].numel() ** -0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def assert_equal(actual: dict, expected: dict) -> None:
    """Bit by bit."""
    assert actual.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(actual[name], value)] == []


def hollow(layout: StateDictMap, arch: str = 'base') -> dict[str, Tensor]:
    """SAM by all its names and shapes in a file of a few kilobytes: every tensor is one zero, many times."""
    return {name: torch.zeros(1).expand(value.shape) for name, value in layout.to_theirs(_names_of_sam(arch)).items()}


@cache
def _names_of_sam(arch: str) -> dict[str, Tensor]:
    return sam_on_meta(arch)


def save(folder: Path, weights: dict, name: str = 'theirs.pth') -> Path:
    torch.save(weights, folder / name)
    return folder / name


def untouched(folder: Path, *names: str) -> bool:
    """Whether there are these files alone: nothing was written."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)
