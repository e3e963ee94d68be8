"""Pre-train a config's text encoder on sentences by masked language modeling, as BERT was.

Usage:
    python reproduction/pretrain_text_encoder.py configs/dit_sam/ldit_vit-t_shapes.py "data/shapes/shapes/refs(unc).p" \
        --out work_dirs/text_encoder.safetensors

For small encoders with their own vocabulary, which otherwise start from random weights. No image is used. To use the
file, set model.text_encoder.init_cfg=dict(type='Pretrained', checkpoint=FILE).
"""

import argparse
import math
import os.path as osp

from dit_sam_cli.arguments import let_threads_yield


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file with the text encoder')
    parser.add_argument(
        'files',
        nargs='+',
        metavar='FILE',
        help='refs(*).p or grefs(*).json (their training split), a prepared file, or lines of JSON (.jsonl)',
    )
    parser.add_argument('--out', required=True, help='weights to write, .safetensors or .pth')
    parser.add_argument('--steps', type=int, default=1000, help='steps')
    parser.add_argument('--batch-size', type=int, default=128, help='sentences of a step')
    parser.add_argument('--masked', type=float, default=0.3, help='share of the tokens that are masked')
    parser.add_argument('--lr', type=float, default=1e-3, help='highest learning rate')
    parser.add_argument('--seed', type=int, default=0, help='seed of weights, order and masks')
    args = parser.parse_args()
    if min(args.steps, args.batch_size) < 1 or args.seed < 0:
        parser.error('--steps and --batch-size are 1 or more, --seed is 0 or more')
    if not 0 < args.masked < 1 or not 0 < args.lr < math.inf:
        parser.error('--masked lies between 0 and 1, --lr is more than 0')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, DataCollatorForLanguageModeling

from dit_sam.datasets import training_sentences
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models import HuggingFaceTextEncoder
from dit_sam.utils import check_target, save_weights


def build_encoder(config: str) -> HuggingFaceTextEncoder:
    """The text encoder of a config, with random weights.

    Raises:
        FileNotFoundError: There is no such config.
        InputError: It has no text encoder.
    """
    cfg = load_config(config)
    if not cfg.model.get('text_encoder'):
        raise InputError(f'{config} has no model.text_encoder: name a config with one')
    init_default_scope('mmseg')
    return MODELS.build({**cfg.model.text_encoder, 'init_cfg': None, 'lora': None})


def tokenize(encoder: HuggingFaceTextEncoder, files: list[str]) -> list[dict[str, list[int]]]:
    """The sentences of the files as token ids.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: A file is damaged, or there are no sentences.
    """
    missing = [file for file in files if not osp.isfile(file)]
    if missing:
        raise FileNotFoundError(f'{missing[0]} is not a file: name files of sentences, such as refs(unc).p')
    sentences = [sentence for file in files for sentence in training_sentences(file)]
    if not sentences:
        raise InputError(f'{", ".join(files)}: no training sentence; name files that have a training split')
    ids = encoder.tokenizer(sentences, truncation=True, max_length=encoder.max_length)['input_ids']
    return [dict(input_ids=one, attention_mask=[1] * len(one)) for one in ids]


def pretrain(encoder: HuggingFaceTextEncoder, items: list[dict], args: argparse.Namespace) -> dict[str, Tensor]:
    """Train the encoder; return the weights by their names in `encoder`.

    Raises:
        InputError: The model cannot be trained by masked words, as T5 and CLIP, or the loss is not finite.
    """
    config, tokenizer = encoder.model.config, encoder.tokenizer
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise InputError(
            f'a text encoder of model_type={config.model_type!r} cannot be pre-trained by masked words; '
            "'bert', 'roberta' and 'deberta-v2' can"
        )
    # In a vocabulary without [MASK], [UNK] takes its place.
    tokenizer.mask_token = tokenizer.mask_token or tokenizer.unk_token
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=args.masked)
    model = AutoModelForMaskedLM.from_config(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=0.01)
    schedule = OneCycleLR(optimizer, args.lr, args.steps, pct_start=0.1)
    total = 0.0
    for step in range(1, args.steps + 1):
        picked = torch.randint(len(items), (args.batch_size,)).tolist()
        loss = model(**collate([items[i] for i in picked])).loss
        if not loss.isfinite():
            raise InputError(
                f'the loss of step {step} is {loss.item()}: lower --lr, or raise --batch-size or --masked, so that '
                'every step has a masked word'
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f'step {step} of {args.steps}: mean loss {total / 100:.3f}', flush=True)
            total = 0.0
    return {f'model.{name}': value for name, value in model.base_model.state_dict().items()}


def main(args: argparse.Namespace) -> None:
    with one_line_errors(OSError, InputError):
        check_target(args.out, args.files)
        torch.manual_seed(args.seed)
        encoder = build_encoder(args.config)
        weights = pretrain(encoder, tokenize(encoder, args.files), args)
        encoder.load_state_dict(weights)
        save_weights(args.out, weights)
    print(f'{args.out}: {sum(value.numel() for value in weights.values()) / 1e6:.2f} M parameters')


if __name__ == '__main__':
    main(ARGS)
