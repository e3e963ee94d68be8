"""The rows of the comparison: settings of a config, what the paper reports of them, and which of them are compared."""

from dataclasses import dataclass, replace
from fractions import Fraction

# Settings of a training that another row needs the average of: of about the last 1 / 0.002 = 500 steps.
AVERAGING = ('default_hooks.ema.type=EMAHook', 'default_hooks.ema.momentum=0.002')
INSTRUCTION = 'model.backbone.instruction'
HEAD = 'model.decode_head'
PREDICTS_IOU = f'{HEAD}.predict_iou=True'
CONFIG = 'configs/dit_sam/ldit_vit-t_pretrained_shapes.py'
# For a width of 192, in proportion to 256, 8 heads and 2048 for ViT-B's 768.
CROSS_ATTENTION = (
    f'{INSTRUCTION}.type=CrossAttentionInstruction',
    f'{INSTRUCTION}.attn_dims=64',
    f'{INSTRUCTION}.num_heads=2',
    f'{INSTRUCTION}.ffn_dims=512',
)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        settings: Settings on top of the config.
        paper: The paper's oIoU and mIoU on RefCOCO val (ViT-B), if it has the row.
        config: The config.
        epochs: Epochs for each epoch of `--epochs`, so that all rows train on equally many sentences.
        weights_of: The row that trains the weights; None trains its own.
        averaged: Whether the moving average of these weights is scored, in place of the last ones.
        test_scale: Side of the input in the test, as a multiple of `--size`.
    """

    settings: tuple[str, ...] = ()
    paper: tuple[float, float] | None = None
    config: str = CONFIG
    epochs: Fraction = Fraction(1)
    weights_of: str | None = None
    averaged: bool = False
    test_scale: Fraction = Fraction(1)


def with_settings(row: Row, *settings: str, paper: tuple[float, float] | None = None) -> Row:
    """A row with more settings, and what the paper reports of it."""
    return replace(row, settings=(*row.settings, *settings), paper=paper)


def by_image(sentences: int, *settings: str) -> Row:
    """A row that trains on images with up to `sentences` sentences each, 32 sentences in a batch.

    Six thousand images have 17,944 references, and nearly all have four sentences or more: an epoch of images has
    6,000 x `sentences` sentences in place of about 18,000.
    """
    loader = (
        f'train_dataloader.batch_size={32 // sentences}',
        f'train_dataloader.dataset.sentences_per_image={sentences}',
        'train_dataloader.collate_fn.type=flatten_collate',
    )
    return Row((*settings, *loader), epochs=Fraction(3, sentences))


TUNED = {
    'default': Row((f'{INSTRUCTION}=None',), (60.74, 63.41)),
    'default, +2 layers': Row((f'{INSTRUCTION}=None', f'{HEAD}.depth=4'), (67.17, 70.51)),
    'default, +4 layers': Row((f'{INSTRUCTION}=None', f'{HEAD}.depth=6'), (65.34, 69.51)),
    'E-DIT': Row((f'{INSTRUCTION}.type=EndToEndInstruction',), (68.07, 71.46)),
    'L-DIT': Row((), (71.98, 74.73)),
    'E-DIT, static': Row((f'{INSTRUCTION}.type=EndToEndStaticInstruction',), (68.53, 72.11)),
    'L-DIT, static': Row((f'{INSTRUCTION}.type=LayerWiseStaticInstruction',), (67.31, 70.84)),
    'L-DIT, CrossAtt': Row(CROSS_ATTENTION, (67.06, 70.33)),
    'L-DIT, CrossAtt+FFN': Row((*CROSS_ATTENTION, f'{INSTRUCTION}.ffn=True'), (68.26, 71.42)),
}
# The paper's numbers with a frozen image encoder, and with both encoders frozen.
FROZEN_IMAGE = {
    'default': (55.67, 57.98),
    'default, +2 layers': (59.88, 62.88),
    'default, +4 layers': (59.46, 62.54),
    'E-DIT': (62.96, 66.87),
    'L-DIT': (67.50, 69.97),
}
FROZEN_BOTH = {'E-DIT': (60.76, 62.87), 'L-DIT': (67.16, 69.56)}
IMAGE, BOTH = ', frozen encoder', ', both encoders frozen'
PAPER = (
    TUNED
    | {
        f'{name}{IMAGE}': with_settings(TUNED[name], 'model.backbone.frozen=True', paper=paper)
        for name, paper in FROZEN_IMAGE.items()
    }
    | {
        f'{name}{BOTH}': with_settings(
            TUNED[name], 'model.backbone.frozen=True', 'model.text_encoder.frozen=True', paper=paper
        )
        for name, paper in FROZEN_BOTH.items()
    }
)
# Rows that the paper compares with each other.
TABLES = {
    'Table 1': [tuple(FROZEN_IMAGE)],
    'Table 1, tuned or frozen': [(name, f'{name}{IMAGE}') for name in FROZEN_IMAGE if name not in FROZEN_BOTH],
    'Table 1, frozen encoder': [tuple(f'{name}{IMAGE}' for name in FROZEN_IMAGE)],
    'Table 2': [('E-DIT', 'E-DIT, static'), ('L-DIT', 'L-DIT, static'), ('E-DIT, static', 'L-DIT, static')],
    'Table 3': [
        *((name, f'{name}{IMAGE}', f'{name}{BOTH}') for name in FROZEN_BOTH),
        tuple(f'{name}{BOTH}' for name in FROZEN_BOTH),
    ],
    'Table 4': [('L-DIT', 'L-DIT, CrossAtt', 'L-DIT, CrossAtt+FFN')],
}

# Not in the paper: text from a later of the 6 blocks on, and several sentences of an image in a step.
LATE = {f'L-DIT from block {start}': Row((f'{INSTRUCTION}.start={start}',)) for start in (2, 3, 4)}
LATE_BY_IMAGE = 'L-DIT from block 4, 4 sentences of an image'
BY_FOUR = 'L-DIT, 4 sentences of an image'
BY_IMAGE = {BY_FOUR: by_image(4), LATE_BY_IMAGE: by_image(4, f'{INSTRUCTION}.start=4')}
# A step of the last one takes 0.63 of the time of one of L-DIT: 6 / 0.63 = 9.5 epochs. Measured by
# `OMP_NUM_THREADS=1 benchmarks/sentences.py --train --arch tiny --size 112 --patch-size 16 --batch 32 --sentences 1 4`.
EQUAL_TIME = f'{LATE_BY_IMAGE}, equal time'
BY_IMAGE[EQUAL_TIME] = replace(BY_IMAGE[LATE_BY_IMAGE], epochs=Fraction(9, 8))

# Not in the paper: a small BEiT-3, which reads the image too and starts from random weights. Its configs lack SAM's
# patches and weights.
WITH_SAM = (
    'model.backbone.patch_size=16',
    'model.backbone.init_cfg.type=Pretrained',
    f'{HEAD}.init_cfg.type=Pretrained',
)
BEIT3 = {
    'EVF-SAM': Row(WITH_SAM, config='configs/evf_sam/evf_vit-t_shapes.py'),
    'L-DIT, BEiT-3': Row(WITH_SAM, config='configs/evf_sam/ldit_evf_vit-t_shapes.py'),
}

# Not in the paper: additions that may lift L-DIT, each alone. Those of images are in the config, with probability 0.
BCE_ALONE = f'{HEAD}.loss_decode.1.loss_weight=0.0'
# The paper's, with BCE alone; all other rows have 0.5.
THRESHOLD = f'{HEAD}.threshold=0.35'
WITH_ADDITION = {
    'L-DIT, BCE alone': Row((BCE_ALONE,)),
    'L-DIT, BCE alone, low threshold': Row((BCE_ALONE, THRESHOLD), weights_of='L-DIT, BCE alone'),
    'L-DIT, low threshold': Row((THRESHOLD,), weights_of='L-DIT'),
    'L-DIT, masked words': Row(('model.text_encoder.masked_tokens=0.15',)),
    'L-DIT, masked patches': Row(('train_dataloader.dataset.pipeline.4.prob=0.5',)),
    'L-DIT, mosaic': Row(('model.data_preprocessor.batch_augments.0.prob=0.5',)),
    f'{BY_FOUR}, negatives': with_settings(BY_IMAGE[BY_FOUR], f'{HEAD}.negatives_weight=0.5'),
    'L-DIT, IoU head': Row((PREDICTS_IOU,)),
    'L-DIT, EMA': Row(weights_of='L-DIT', averaged=True),
    'L-DIT, tested larger': Row(weights_of='L-DIT', test_scale=Fraction(8, 7)),
}
# The row with an addition, and the row that it is added to.
ADDITIONS = {
    'Dice beside BCE': ('L-DIT', 'L-DIT, BCE alone'),
    'Dice beside BCE, both with the threshold 0.35': ('L-DIT, low threshold', 'L-DIT, BCE alone, low threshold'),
    'Dice beside BCE and the threshold 0.5, in place of 0.35': ('L-DIT', 'L-DIT, BCE alone, low threshold'),
    'threshold 0.35 in place of 0.5': ('L-DIT, low threshold', 'L-DIT'),
    'masked words': ('L-DIT, masked words', 'L-DIT'),
    'masked patches': ('L-DIT, masked patches', 'L-DIT'),
    'mosaic': ('L-DIT, mosaic', 'L-DIT'),
    '4 sentences of an image': (BY_FOUR, 'L-DIT'),
    'its sentences as negatives': (f'{BY_FOUR}, negatives', BY_FOUR),
    '4 sentences of an image, and its negatives': (f'{BY_FOUR}, negatives', 'L-DIT'),
    'IoU head': ('L-DIT, IoU head', 'L-DIT'),
    'EMA of the weights': ('L-DIT, EMA', 'L-DIT'),
    'input of 8/7 the size in the test': ('L-DIT, tested larger', 'L-DIT'),
    'text from block 4 on': ('L-DIT from block 4', 'L-DIT'),
    'the same with 4 sentences of an image, equal time': (EQUAL_TIME, 'L-DIT'),
}
# Those against overfitting, which few images show.
REGULARIZERS = ('masked words', 'masked patches', 'mosaic')

# Not in the paper: cross-attention to LN(V_i), where the rows of the paper take V_i as it is.
NORMED_IMAGE = ', normed image'
NORMED = {
    f'{name}{NORMED_IMAGE}': with_settings(TUNED[name], f'{INSTRUCTION}.norm_visual=True')
    for name in ('L-DIT, CrossAtt', 'L-DIT, CrossAtt+FFN')
}

ROWS = PAPER | NORMED | LATE | BY_IMAGE | BEIT3 | WITH_ADDITION
# Rows whose training averages the weights too, which does not change it.
AVERAGED = frozenset(row.weights_of for row in ROWS.values() if row.averaged)


# Rows whose training may start from a trained L-DIT.
CONTINUE_L_DIT = frozenset({'L-DIT', *WITH_ADDITION, *(row for row in BY_IMAGE if 'from block' not in row)})


def _rows_of(*additions: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row for name in additions for row in ADDITIONS[name]))


# Names for several rows.
GROUPS = {
    'main': ('default', 'E-DIT', 'L-DIT'),
    'paper': tuple(PAPER),
    'normed': tuple(NORMED),
    'late': (*LATE, LATE_BY_IMAGE, EQUAL_TIME),
    'additions': tuple(
        row for row in _rows_of(*(name for name in ADDITIONS if name not in REGULARIZERS)) if row in CONTINUE_L_DIT
    ),
    'regularizers': _rows_of(*REGULARIZERS),
}


def name_of(row: str, seed: int | str) -> str:
    """Name of the files of a run."""
    return row.replace('+', '-plus-').replace(', ', '_').replace(' ', '-').replace('--', '-') + f'_seed{seed}'
