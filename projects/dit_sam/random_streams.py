"""Random streams that are a function of numbers, and not of what was drawn before."""

import random

import numpy as np
import torch


def seed_all(*numbers: int) -> None:
    """Seed Python, numpy and torch (all devices) by several numbers, mixed so that neighbours are unrelated."""
    words = np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)
