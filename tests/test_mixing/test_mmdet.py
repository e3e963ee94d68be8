"""SAM's encoder in mmdet's models; referring data in mmdet's form, and its scores."""

import copy
import json
import re
import runpy
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from processes import ROOT, call_tool
from pycocotools.mask import decode
from small import small_model
from test_docs import blocks, build_on_meta, write_blocks  # noqa: F401  (a fixture)

from dit_sam.datasets import RefCOCODataset, ReferringDataset
from dit_sam.engine.compile_hook import CompileHook, compile_blocks
from dit_sam.engine.launch import enable_amp
from dit_sam.errors import InputError
from dit_sam.evaluation import MaskWriter, ReferringIoU
from dit_sam.mmengine_extras.config_check import check_config
from dit_sam.mmengine_extras.optim_wrapper import GuardedOptimWrapper
from dit_sam.models import ReferringTTAModel

mmdet_registry = pytest.importorskip('mmdet.registry')
from mmdet.evaluation import RefSegMetric  # noqa: E402
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402

TOOL = 'dataset_converters/mmdet_refcoco.py'


@pytest.fixture
def mmdet_scope(mmseg_scope) -> None:
    init_default_scope('mmdet')


def detection(size: tuple[int, int], text: str) -> DetDataSample:
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0), text=text
        )
    )
    mask = np.zeros((1, *size), dtype=np.uint8)
    mask[:, 8:40, 8:40] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]), labels=torch.tensor([3]), masks=BitmapMasks(mask, *size)
    )
    return sample


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]


def build(cfg: Config) -> torch.nn.Module:
    build_on_meta(cfg.model)
    model = mmdet_registry.MODELS.build(small_model(cfg))
    model.init_weights()
    return model


@pytest.mark.parametrize('name', ['detr.py', 'detr_sentences.py'])
def test_detr_trains_a_step_and_predicts(name, mmdet_scope, write_blocks):  # noqa: F811
    cfg = Config.fromfile(write_blocks('mixing.md')[name])
    check_config(cfg, name)
    model = build(cfg)
    size = (64, 64)
    data = dict(inputs=images(size, size), data_samples=[detection(size, 'cat'), detection(size, 'dog')])
    before = {key: value.clone() for key, value in model.named_parameters()}
    optim_wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))
    assert model.train().train_step(data, optim_wrapper)['loss'].isfinite()
    moved = {key.split('.')[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key.split('.')[0] for key in before}
    outputs = []
    for text in ('cat', 'dog'):
        data = dict(inputs=[torch.full((3, 48, 64), 90, dtype=torch.uint8)], data_samples=[detection((48, 64), text)])
        outputs.append(model.eval().test_step(data)[0].pred_instances.scores)
    assert outputs[0].shape == (5,)
    assert torch.equal(*outputs) == (name == 'detr.py')


@pytest.mark.skipif('Substitute' not in (sys.modules['mmcv._ext'].__doc__ or ''), reason='the compiled ops are there')
def test_mask_r_cnn_pooling_needs_the_full_mmcv():
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=7, sampling_ratio=0), 8, [4])
    with pytest.raises(RuntimeError, match='needs the full mmcv, and only mmcv-lite'):
        extractor((torch.zeros(1, 8, 16, 16),), torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0]]))


# In mmdet a head takes keys out of a part, or looks its type up elsewhere; a hook gives its priority.
STOCK = ['detr/detr_r50_8xb2-150e_coco', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'yolox/yolox_s_8xb8-300e_coco']


@pytest.mark.parametrize('name', STOCK)
def test_mmdets_own_configs_pass_and_typing_errors_are_named(name, mmdet_scope):
    cfg = Config.fromstring(f"_base_ = 'mmdet::{name}.py'", '.py')
    check_config(cfg, name)
    for key, message in (
        ('model.backbone.dept', 'model.backbone.dept is not an argument of'),
        ('model.neck.type', "model.neck.type='F' is not registered"),
        ('custom_hooks', 'custom_hooks.0.prioritie is not an argument of EarlyStoppingHook; did you mean priority?'),
    ):
        wrong = copy.deepcopy(cfg)
        wrong.merge_from_dict({key: [dict(type='EarlyStoppingHook', prioritie=1)] if key == 'custom_hooks' else 'F'})
        with pytest.raises(InputError, match=re.escape(message)):
            check_config(wrong, name)


@pytest.mark.parametrize('name', ['SAMHead', 'EVFSAMHead', 'GeneralizedSAMHead'])
def test_heads_find_their_own_losses_in_mmdets_scope(name, mmdet_scope):
    sizes = dict(in_channels=16, text_dims=16, num_heads=2, mlp_dim=32, iou_head_hidden_dim=16)
    assert mmdet_registry.MODELS.build(dict(type=f'mmseg.{name}', **sizes)).loss_decode


def test_parts_of_ours_are_named_in_mmdets_scope(mmdet_scope):
    """By --amp, compile=True, --out and --tta of the tools."""
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'sam_vit-b_solov2_coco.py')
    cfg.compile = True
    enable_amp(cfg)
    compile_blocks(cfg)
    assert type(mmdet_registry.HOOKS.build(cfg.custom_hooks[-1])) is CompileHook
    net = torch.nn.Linear(1, 1)
    assert type(build_optim_wrapper(net, cfg.optim_wrapper)) is GuardedOptimWrapper
    tool = runpy.run_path(str(ROOT / 'tools' / 'test.py'))
    tool['add_mask_writer'](cfg, 'masks')
    cfg.update(tta_model=dict(type='SegTTAModel'), tta_pipeline=[dict(type='LoadImageFromFile')])
    tool['augment'](cfg)
    assert mmdet_registry.MODELS.get(cfg.model.type) is ReferringTTAModel
    assert type(mmdet_registry.METRICS.build(cfg.test_evaluator[-1])) is MaskWriter


@pytest.fixture
def converted(write_refcoco, tmp_path) -> tuple[str, dict]:
    """The root of tests/conftest.py's data set, also converted for mmdet, and its splits read by our own data set.

    As in RefCOCO, all raw sentences except one differ from the cleaned ones.
    """

    def retype(_: dict, refs: list) -> None:
        for sentence in (sentence for ref in refs for sentence in ref['sentences'] if sentence['sent'] != 'squares'):
            sentence['raw'] = f'{sentence["sent"].upper()}!'

    root, files, ours = write_refcoco(retype), [], {}
    for split in ('train', 'val', 'testA'):
        dataset = RefCOCODataset(root, split=split)
        files.append(tmp_path / f'refcoco_unc_{split}.safetensors')
        dataset.table.save(files[-1])
        ours[split] = ReferringDataset(
            str(files[-1]), data_root='', data_prefix=dict(img_path=f'{root}/train2014/'), test_mode=True
        )
    out = tmp_path / 'mmdet' / 'refcoco'
    assert call_tool(TOOL, *files, '--out', out) == 0
    return root, ours


@pytest.mark.parametrize('split', ['train', 'val', 'testA'])
def test_mmdet_reads_converted_files(split, converted, mmdet_scope, write_blocks):  # noqa: F811
    """By its own pipeline: every sentence with its mask, those of two references to one object among them."""
    root, ours = converted
    cfg = Config.fromfile(write_blocks('mixing.md')['refcoco_dataset.py'])
    dataset = mmdet_registry.DATASETS.build(dict(cfg.val_dataloader.dataset, data_root=root, split=split))
    found = {}
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        assert len(sample.text) == len(sample.gt_masks)
        for text, mask in zip(sample.text, sample.gt_masks.to_ndarray()):
            found.setdefault((sample.img_id, text), []).append(int(mask.sum()))
    expected = {}
    for i in range(len(ours[split])):
        item = ours[split].get_data_info(i)
        typed = item['text'] if item['text'] == 'squares' else f'{item["text"]}!'
        expected.setdefault((item['img_id'], typed), []).append(int(decode(item['segmentation']).sum()))
    assert {key: sorted(value) for key, value in found.items()} == {
        key: sorted(value) for key, value in expected.items()
    }


def test_non_numeric_ids_and_missing_files_are_named(capsys, converted, error_of, tmp_path):
    content = json.loads((tmp_path / 'mmdet' / 'refcoco' / 'instances.json').read_text())
    assert [one['id'] for one in content['annotations']] == [1, 2, 3, 4, 5, 6]
    assert '6 references to 3 images, splits testA, train, val' in capsys.readouterr().out
    assert 'none.safetensors not found' in error_of(TOOL, tmp_path / 'none.safetensors', '--out', tmp_path)


def referring(predicted: list, meant: list, **meta) -> DetDataSample:
    sample = DetDataSample(
        metainfo=dict(
            img_path='a.jpg',
            text=['one', 'two'][: len(meant)],
            gt_masks=BitmapMasks(np.array(meant, dtype=np.uint8), 2, 2),
            **meta,
        )
    )
    sample.pred_instances = InstanceData(masks=torch.tensor(predicted, dtype=torch.bool))
    return sample


def test_our_metric_scores_mmdets_samples():
    """IoU 1/2 and 2/3; together 3 of 5 pixels. mmdet's own metric agrees."""
    cfg = blocks('mixing.md')['refcoco_dataset.py']
    assert "type='mmseg.ReferringIoU'" in cfg
    samples = [referring([[[1, 0], [0, 0]], [[1, 1], [1, 0]]], [[[1, 1], [0, 0]], [[1, 1], [0, 0]]])]
    init_default_scope('mmdet')
    evaluator = Evaluator([dict(type='mmseg.ReferringIoU'), dict(type=RefSegMetric, prefix='mmdet')])
    evaluator.process(data_samples=samples, data_batch={})
    scores = evaluator.evaluate(1)
    assert scores['oIoU'] == pytest.approx(3 / 5 * 100) and scores['mIoU'] == pytest.approx((1 / 2 + 2 / 3) / 2 * 100)
    assert (scores['P@0.5'], scores['P@0.6'], scores['P@0.7']) == (50.0, 50.0, 0.0)
    assert scores['mmdet/cIoU'].item() == pytest.approx(scores['oIoU'])
    assert scores['mmdet/mIoU'].item() == pytest.approx(scores['mIoU'])


@pytest.mark.parametrize(
    'text, sentences', [(['one', 'two'], ['one', 'two']), (['one'], [['one'], ['one']]), ('one', ['one', 'one'])]
)
def test_each_sentence_of_mmdet_has_a_line_in_the_dump(tmp_path, text, sentences):
    """Each has the path of its picture, and its own words if there are as many sentences as masks."""
    masks = [[[1, 0], [0, 0]], [[1, 1], [1, 0]]]
    sample = referring(masks, masks, img_id=7)
    sample.set_metainfo(dict(text=text))
    metric = ReferringIoU(dump=str(tmp_path / 'dump.jsonl'))
    metric.process({}, [sample.to_dict()])
    metric.evaluate(1)
    found = [json.loads(line) for line in (tmp_path / 'dump.jsonl').read_text().splitlines()]
    assert [(line['img_path'], line['img_id'], line['sentence'], line['truth_area']) for line in found] == [
        ('a.jpg', 7, sentence, area) for sentence, area in zip(sentences, (1, 3))
    ]


def test_a_missing_mask_is_named():
    sample = referring([[[1, 0], [0, 0]]], [[[1, 1], [0, 0]], [[1, 1], [0, 0]]]).to_dict()
    with pytest.raises(InputError, match='a.jpg has 1 predicted and 2 true masks'):
        ReferringIoU().process({}, [sample])
