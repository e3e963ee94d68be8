"""The data samples of mmdet's referring segmentation."""

from collections.abc import Iterator

from ..errors import InputError


def split_by_sentence(sample: dict) -> Iterator[dict]:
    """A data sample of ours as it is; of mmdet, which holds all sentences of an image, one for each sentence.

    Args:
        sample: mmdet's has, as for its `RefSegMetric`, ``pred_instances.masks``, (N, H, W), and ``gt_masks`` of N masks
            (`BitmapMasks` or `PolygonMasks`), both in the order of its list ``text``.

    Raises:
        InputError: There are more or fewer masks predicted than meant.
    """
    if 'gt_masks' not in sample or 'pred_instances' not in sample:
        yield sample
        return
    predictions = sample['pred_instances']['masks']
    truths = sample['gt_masks'].to_tensor(predictions.dtype, predictions.device)
    if len(predictions) != len(truths):
        raise InputError(
            f'{len(predictions)} masks are predicted and {len(truths)} are meant in '
            f'{sample.get("img_path")}: referring segmentation wants one for each sentence'
        )
    shared = {key: sample[key] for key in ('img_path', 'img_id') if key in sample}
    texts = sample.get('text')
    # Only the dump names the sentence.
    texts = texts if isinstance(texts, (list, tuple)) and len(texts) == len(truths) else [texts] * len(truths)
    for text, prediction, truth in zip(texts, predictions, truths):
        yield dict(
            shared, text=text, pred_sem_seg=dict(data=prediction[None].bool()), gt_sem_seg=dict(data=truth[None].bool())
        )
