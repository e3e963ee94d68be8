"""EVF-SAM's released layout: converted both ways, and taken as it is by test, train and the inferencer."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from processes import ROOT, call_tool, run_tool
from safetensors.torch import load_file

from dit_sam.apis import ReferringInferencer
from dit_sam.datasets.shapes import write_shapes
from dit_sam.models.weights import EVF_SAM

CONFIG = ROOT / 'configs' / 'evf_sam' / 'evf_vit-t_shapes.py'


@pytest.fixture(scope='module')
def released(tmp_path_factory) -> tuple:
    """A small EVF-SAM with random weights: its config, a file as released, and its inferencer."""
    folder = tmp_path_factory.mktemp('evf')
    config = folder / 'config.py'
    Config.fromfile(CONFIG).dump(config)
    torch.manual_seed(0)
    inferencer = ReferringInferencer(str(config), device='cpu')
    for parameter in inferencer.model.parameters():
        parameter.data.normal_(std=0.3).copy_(parameter.data.half().float())
    path = folder / 'pytorch_model.bin'
    weights = EVF_SAM.to_theirs(inferencer.model.state_dict())
    torch.save({name: value.half() for name, value in weights.items()}, path)
    return str(config), path, inferencer


def test_weights_are_converted_there_and_back(released, tmp_path, capsys):
    config, path, inferencer = released
    there, back = tmp_path / 'ours.safetensors', tmp_path / 'model.safetensors'
    assert call_tool('model_converters/evf2mmseg.py', path, there, '--config', config) == 0
    assert call_tool('model_converters/evf2mmseg.py', there, back, '--config', config) == 0
    assert 'config, ' in capsys.readouterr().out
    ours, theirs, original = load_file(there), load_file(back), torch.load(path, weights_only=True)
    assert ours.keys() == inferencer.model.state_dict().keys()
    assert theirs.keys() == original.keys()
    assert all(torch.equal(theirs[name], original[name]) for name in original)


def test_the_converter_runs_as_a_program_of_its_own(released, tmp_path):
    """In a process without mm's default scope."""
    config, path, _ = released
    done = run_tool('model_converters/evf2mmseg.py', path, tmp_path / 'ours.safetensors', '--config', config)
    assert done.returncode == 0, done.output
    assert len(load_file(tmp_path / 'ours.safetensors')) == len(torch.load(path, weights_only=True))


def test_the_analysis_tools_take_models_that_read_the_image_with_the_sentence(released, tmp_path, output_of, error_of):
    config, path, _ = released
    assert 'text encoder' in output_of('analysis_tools/count_parameters.py', config, '--size', 96)
    assert 'GiB' in output_of('analysis_tools/estimate_memory.py', config, '--sizes', 96, '--batch-sizes', 1)
    write_shapes(tmp_path / 'data', images=20)
    options = ['--cfg-options', f'train_dataloader.dataset.data_root={tmp_path}/data/']
    options += ['train_dataloader.dataset.sentences_per_image=2', '--out', tmp_path / 'out', '--num', 2]
    assert output_of('analysis_tools/browse_dataset.py', config, *options).count('.png') > 2
    # Its one prompt is for the whole sentence, so that there is no attention to words.
    picture = next((tmp_path / 'data' / 'images').iterdir())
    line = error_of('analysis_tools/attention.py', config, path, picture, 'the red circle', '--out', tmp_path / 'maps')
    assert 'attention' in line


def test_the_released_file_opens_as_it_is(released):
    """Also without a folder of tokenizer and config, and with several sentences of one picture."""
    config, path, expected = released
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    sentences = ['the red circle', 'star']
    opened = ReferringInferencer(config, str(path), device='cpu')
    ours, theirs = (model(picture, sentences)['predictions'] for model in (opened, expected))
    for one, other in zip(ours, theirs):
        # The Fourier matrix is rounded to 16 bits in the file too.
        assert (one['mask'] != other['mask']).mean() < 0.01
        assert 0 < one['area'] < picture[..., 0].size
    assert ours[0]['score'] != ours[1]['score']
    alone = [opened(picture, sentence)['predictions'][0]['mask'] for sentence in sentences]
    assert [(one['mask'] == single).all() for one, single in zip(ours, alone)] == [True, True]


def test_the_released_file_is_tested_and_trained_from(released, tmp_path, output_of):
    config, path, _ = released
    write_shapes(tmp_path / 'data', images=20)
    options = [
        f'{loader}.{setting}'
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader')
        for setting in (f'dataset.data_root={tmp_path}/data/', 'num_workers=0', 'persistent_workers=False')
    ]
    output = output_of('test.py', config, path, '--work-dir', tmp_path / 'test', '--cfg-options', *options)
    assert 'mIoU/place' in output
    options += [f'load_from={path}', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=4']
    options += ['train_dataloader.dataset.sentences_per_image=2', 'train_dataloader.collate_fn.type=flatten_collate']
    output_of('train.py', config, '--work-dir', tmp_path / 'train', '--cfg-options', *options)
    assert (tmp_path / 'train' / 'epoch_1.pth').is_file()
