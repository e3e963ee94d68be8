"""What is known of a trained model, and the card that says it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ..mmengine_extras.config_check import class_name

NOT_STATED = 'not stated'
_TAGS = ['referring-image-segmentation', 'referring-expression-segmentation', 'segment-anything', 'openmmlab']
_PROTOCOLS = dict(
    original='masks at the original size of the image',
    lavt480='prediction and truth stretched to 480 × 480, as LAVT does',
    rela480='truth drawn from polygons scaled to 480 × 480, as ReLA does',
    dit='probabilities at the input size of the network, as the released DIT does',
)


def describe_training(config: Mapping, recorded: Mapping) -> dict[str, Any]:
    """What a config and a checkpoint say about the training, as plain values; keys that are unknown are left out.

    Args:
        config: Config of the training.
        recorded: What `epoch_and_scores` gives for the checkpoint.

    Returns:
        `data`, the training data; `epoch`, `iter`; and, if the validation after that epoch is recorded, `scores` by
        name with `scored_on`, the data of the validation, and `protocol`, see `ReferringIoU`.
    """
    found: dict[str, Any] = dict(recorded, data=list(_data_of(config.get('train_dataloader'))))
    if found.get('scores'):
        evaluator = config.get('val_evaluator') or {}
        evaluators = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
        protocols = [one.get('protocol', 'original') for one in evaluators if class_name(one) == 'ReferringIoU']
        found.update(scored_on=list(_data_of(config.get('val_dataloader'))), protocol=next(iter(protocols), None))
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def epoch_and_scores(checkpoint: Any) -> dict[str, Any]:
    """`epoch`, `iter` and the `scores` of the validation after them, as far as a checkpoint records them.

    Args:
        checkpoint: Of tools/train.py, or the weights that publish_model.py made of one; anything else records nothing.
    """
    meta = _dict(_dict(checkpoint).get('meta'))
    counts = {key: int(meta[key]) for key in ('epoch', 'iter') if str(meta.get(key, '')).isdigit()}
    if isinstance(meta.get('scores'), str):  # of publish_model.py
        try:
            scores = _dict(json.loads(meta['scores']))
        except ValueError:
            scores = {}
    else:
        scores = _dict(_dict(_dict(_dict(checkpoint).get('message_hub')).get('runtime_info')).get('scores'))
        # A checkpoint that is written before its validation has the scores of the previous epoch.
        scores = scores if scores.get('epoch') == meta.get('epoch') else {}
    kept = {
        str(name): value
        for name, value in scores.items()
        if name != 'epoch' and isinstance(value, (int, float)) and math.isfinite(value)
    }
    return dict(counts, scores=kept)


def _dict(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _data_of(loader: Any) -> Iterator[dict[str, str]]:
    """`name` and `split` of each data set of a loader."""
    waiting = [(loader or {}).get('dataset')]
    while waiting:
        dataset = waiting.pop(0)
        if not isinstance(dataset, Mapping):
            continue
        waiting += [*(dataset.get('datasets') or ()), dataset.get('dataset')]
        file = PurePosixPath(dataset.get('ann_file') or '')
        if file.name:
            # refcoco/instances.json, or a file per set and split, as prepared/refcoco_unc_val.safetensors.
            own = file.parent.name in ('', 'prepared')
            name = file.stem if own else file.parent.name
            yield dict(name=name, **({'split': dataset['split']} if dataset.get('split') else {}))


def model_card(data: Mapping, name: str, weights: str) -> str:
    """The text of a model card, with the hub's metadata at its head.

    Args:
        data: The config of the shared model.
        name: What `from_pretrained` gets.
        weights: Number, type and size of the weights.
    """
    from huggingface_hub import ModelCardData

    training, license = data.get('training') or {}, data.get('license')
    metadata = ModelCardData(
        license=license,
        library_name='dit_sam',
        pipeline_tag='image-segmentation',
        tags=_TAGS,
        datasets=list(dict.fromkeys(one['name'] for one in training.get('data', ()))) or None,
    )
    kind = data['model'].get('backbone', {}).get('instruction') or {}
    sections = [
        f'---\n{metadata.to_yaml().strip()}\n---\n\n# {name}\n\n'
        '**Task:** referring image segmentation. The model takes an image and a sentence, and returns the mask of the '
        'object that the sentence describes.',
        _how_to_load(name),
        f'## Model\n\n{_rows(_model_rows(data, kind, weights))}',
        f'## Training\n\n{_training(training)}',
        f'## Scores\n\n{_scores(training)}',
        f'## License\n\n{license or f"{NOT_STATED.capitalize()}. Ask the author before you use the weights."}',
        '## Versions\n\n' + _rows(data['versions'].items()),
    ]
    return '\n\n'.join(sections) + '\n'


def _how_to_load(name: str) -> str:
    return (
        '## How to load\n\n```python\nfrom dit_sam.apis import ReferringInferencer\n\n'
        f"inferencer = ReferringInferencer.from_pretrained('{name}')\n"
        "mask = inferencer('photo.jpg', 'the one on the left')['predictions'][0]['mask']\n```\n\n"
        f'In the terminal: `dit-sam infer photo.jpg "the one on the left" --model {name}`. The config is data: opening '
        'the model runs no code of this repository.'
    )


def _model_rows(data: Mapping, kind: Mapping, weights: str) -> Iterator[tuple[str, str]]:
    yield 'config', data.get('name') or NOT_STATED
    yield 'instruction', class_name(kind) or 'none'
    yield 'weights', weights


def _training(training: Mapping) -> str:
    rows = [
        ('data', _names(training.get('data'))),
        ('epochs', str(training.get('epoch', NOT_STATED))),
        ('steps', str(training.get('iter', NOT_STATED))),
    ]
    return _rows(rows)


def _scores(training: Mapping) -> str:
    scores = training.get('scores')
    if not scores:
        return 'No scores are recorded in the checkpoint.'
    protocol = training.get('protocol')
    meaning = f'`{protocol}` ({_PROTOCOLS[protocol]})' if protocol in _PROTOCOLS else NOT_STATED
    lines = [f'| {name} | {value:.2f} |' for name, value in scores.items()]
    return (
        f'Data: {_names(training.get("scored_on"))}. Protocol: {meaning}. Measured by the validation of the training, '
        'in percent. oIoU is Σ intersection / Σ union, mIoU the mean over sentences.\n\n'
        + '\n'.join(['| Score | Value |', '|---|---|', *lines])
    )


def _names(sets: Any) -> str:
    return ', '.join(' '.join(one.values()) for one in sets or ()) or NOT_STATED


def _rows(pairs: Any) -> str:
    return '\n'.join(f'* {name}: {value}' for name, value in pairs)
