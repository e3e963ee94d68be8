"""Runs that cannot start or would never end are refused in one line."""

import argparse
import math
import os

import pytest
from mmengine.runner import Runner
from processes import ROOT, call_tool

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.run_check import check_training
from dit_sam_cli.arguments import note_local_rank

TOY = str(ROOT / 'tests' / 'toy_config.py')
CONFIGS = ROOT / 'configs' / 'dit_sam'
FSDP = CONFIGS / 'ldit_vit-h_fsdp.py'
EPOCHS = {'train_dataloader.sampler.type': 'InfiniteSampler'}
ITERATIONS = {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=3, val_interval=3)}


@pytest.mark.parametrize(
    'options, message',
    [
        ({'train_dataloader.batch_size': 0}, 'train_dataloader.batch_size=0 must be a whole number of at least 1$'),
        ({'val_dataloader.batch_size': None}, 'val_dataloader.batch_size=None must be a whole number of at least 1$'),
        ({'val_dataloader.batch_size': '4'}, "val_dataloader.batch_size='4' must be a whole number of at least 1$"),
        ({'val_dataloader.batch_size': True}, 'val_dataloader.batch_size=True must be a whole number of at least 1$'),
        ({'train_dataloader.batch_size': 2.0}, 'train_dataloader.batch_size=2.0 must be a whole number'),
        (
            {'val_dataloader': dict(drop_last=True, batch_sampler=dict(type='ImageBatchSampler'))},
            'val_dataloader.drop_last=True does not work with val_dataloader.batch_sampler',
        ),
        ({'default_hooks.logger.interval': 0}, 'default_hooks.logger.interval=0 must be'),
        ({'default_hooks.stop_signal.interval': 0}, 'default_hooks.stop_signal.interval=0 must be'),
        ({'default_hooks.checkpoint.interval': 0}, 'default_hooks.checkpoint.interval=0 must be .* -1 saves only the'),
        ({'train_dataloader.batch_size': 2.5}, 'train_dataloader.batch_size=2.5 must be a whole number'),
        ({'test_dataloader.num_workers': -1}, 'test_dataloader.num_workers=-1 must be a whole number of at least 0$'),
        ({'train_cfg.max_epochs': 0}, 'train_cfg.max_epochs=0 must be'),
        ({'train_cfg.val_interval': 0}, 'train_cfg.val_interval=0 must be .*; to train without validation set val_cfg'),
        ({'val_dataloader.dataset.indices': 0}, 'val_dataloader.dataset.indices=0 leaves no items'),
        (
            {'train_dataloader.dataset': dict(type='ConcatDataset', datasets=[dict(type='ToyDataset', indices=[])])},
            r'train_dataloader.dataset.datasets.0.indices=\[\] leaves no items',
        ),
        (
            {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='gIoU')]},
            "custom_hooks.0.monitor='gIoU' needs a rule: set custom_hooks.0.rule to 'greater' or 'less'",
        ),
        ({'optim_wrapper.accumulative_counts': 0}, 'optim_wrapper.accumulative_counts=0 must be'),
        ({'optim_wrapper.optimizer.lr': -0.1}, 'optim_wrapper.optimizer.lr=-0.1 must be a number of at least 0$'),
        ({'optim_wrapper.optimizer.lr': math.nan}, 'optim_wrapper.optimizer.lr=nan must be a number of at least 0$'),
        ({'auto_scale_lr.enable': True}, 'auto_scale_lr.enable=True needs auto_scale_lr.base_batch_size'),
        ({'auto_scale_lr': dict(enable=True, base_batch_size=0)}, 'auto_scale_lr.base_batch_size=0 must be'),
        ({'default_hooks.finite_step.interval': 0}, 'default_hooks.finite_step.interval=0 must be a whole number'),
        (
            {'strategy': dict(type='FSDPStrategy'), 'optim_wrapper.type': 'AmpOptimWrapper'},
            'optim_wrapper.type=AmpOptimWrapper, .* does not work with FSDP',
        ),
        (
            {'strategy': dict(type='FSDPStrategy'), 'optim_wrapper.clip_grad': dict(max_norm=1.0)},
            'optim_wrapper.type=OptimWrapper clips by .*with FSDP take GuardedOptimWrapper',
        ),
        (
            {'strategy': dict(type='FSDPStrategy'), 'model': dict(backbone=dict(lora=dict(r=2)))},
            'model.backbone.lora does not work with FSDP',
        ),
        (
            {'strategy': dict(type='FSDPStrategy'), 'optim_wrapper.constructor': 'mmseg.SAMLayerDecayConstructor'},
            'weights in shards of FSDP have one dimension',
        ),
        (
            {'strategy': dict(type='FSDPStrategy'), 'optim_wrapper.paramwise_cfg': dict(flat_decay_mult=0.0)},
            'weights in shards of FSDP have one dimension',
        ),
        (
            {'strategy': dict(type='DeepSpeedStrategy'), 'auto_scale_lr': dict(enable=True, base_batch_size=8)},
            'auto_scale_lr.enable=True has no effect with DeepSpeed: leave it out, and set optim_wrapper.optimizer.lr',
        ),
        (
            {'activation_checkpointing': ['backbone'], 'model.backbone': dict(type='SAMViT', _delete_=True)},
            r"activation_checkpointing=\['backbone'\] does not work with SAMViT: set model.backbone.with_cp=True",
        ),
        (
            {'default_hooks.checkpoint': dict(by_epoch=False, interval=10), 'optim_wrapper.accumulative_counts': 4},
            'default_hooks.checkpoint.interval=10 would save inside a step of .*: take a multiple of 4',
        ),
        (
            {'strategy': dict(type='FSDPStrategy'), 'custom_hooks': [dict(type='EMAHook')]},
            r"custom_hooks.0: mmengine's EMAHook does not work with FSDPStrategy: --cfg-options custom_hooks='\[\]'",
        ),
        (
            {'strategy': dict(type='DeepSpeedStrategy'), 'default_hooks.ema': dict(type='EMAHook')},
            "default_hooks.ema: mmengine's EMAHook does not .*DeepSpeedStrategy: --cfg-options default_hooks.ema=None",
        ),
        (
            {'custom_hooks': [dict(type='EMAHook')], 'optim_wrapper.accumulative_counts': 4},
            'custom_hooks.0.interval=1 counts batches, and .*=4 of them make a step: take 4, or another multiple of 4$',
        ),
        (
            {'default_hooks.ema': dict(type='EMAHook', interval=6), 'optim_wrapper.accumulative_counts': 4},
            'default_hooks.ema.interval=6 counts batches, .*: take 8, or another',
        ),
        (EPOCHS, 'train_dataloader.sampler.type=InfiniteSampler never ends an epoch: take ResumableSampler'),
    ],
)
def test_numbers_and_samplers_that_no_run_can_use(options, message):
    with pytest.raises(InputError, match=f'toy_config.py: {message}'):
        load_config(TOY, cfg_options=options)


def test_similar_valid_settings_pass():
    load_config(TOY, cfg_options=EPOCHS | ITERATIONS)
    load_config(TOY, cfg_options={'default_hooks.checkpoint.interval': -1, 'optim_wrapper.optimizer.lr': 0})
    averaging = dict(type='EMAHook', interval=8)
    load_config(TOY, cfg_options={'custom_hooks': [averaging], 'optim_wrapper.accumulative_counts': 4})
    load_config(str(FSDP), cfg_options={'default_hooks.ema': None, 'custom_hooks': []})
    for path in set(CONFIGS.glob('*.py')) - {CONFIGS / 'ldit_vit-h_deepspeed.py'}:
        load_config(str(path), cfg_options={'auto_scale_lr': dict(enable=True, base_batch_size=64)})


@pytest.mark.parametrize(
    'launcher, variable', [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_LOCAL_RANK')]
)
def test_a_launcher_that_did_not_start_the_process(monkeypatch, launcher, variable):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InputError, match=f'--launcher {launcher}: {variable} is not set; start with'):
        load_config(TOY, launcher)


@pytest.mark.parametrize('launcher, local_rank', [('mpi', '3'), ('pytorch', '0')])
def test_mpirun_names_the_gpu(monkeypatch, launcher, local_rank):
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '3')
    monkeypatch.setenv('LOCAL_RANK', '')
    monkeypatch.delenv('LOCAL_RANK')
    note_local_rank(argparse.Namespace(launcher=launcher, local_rank=0))
    assert os.environ['LOCAL_RANK'] == local_rank


@pytest.mark.filterwarnings('error:.*pin_memory')
def test_data_are_loaded_without_worker_processes_and_without_a_gpu(tmp_path):
    """The configs keep workers alive and prefetch, which a data loader without workers refuses, and pin memory, of
    which torch warns without a GPU."""
    settings = ('num_workers=0', 'persistent_workers=True', 'prefetch_factor=2', 'timeout=9', 'pin_memory=True')
    options = [f'{name}_dataloader.{setting}' for name in ('train', 'val', 'test') for setting in settings]
    assert call_tool('train.py', TOY, '--work-dir', tmp_path, '--cfg-options', *options) == 0


@pytest.mark.parametrize(
    'options, message',
    [
        (['train_dataloader.dataset.items=0'], 'train_dataloader.dataset has no items: look at its split, indices and'),
        (['val_dataloader.dataset.items=0'], 'val_dataloader.dataset has no items'),
        (
            ['train_dataloader.batch_size=9', 'train_dataloader.drop_last=True'],
            'train_dataloader gives no batch: batch_size=9 and drop_last=True leave nothing of 8 items on 1 rank',
        ),
    ],
)
def test_a_training_without_a_batch(tmp_path, error_of, options, message):
    assert error_of('train.py', TOY, '--work-dir', tmp_path, '--cfg-options', *options).startswith(message)
    assert not list(tmp_path.glob('*.pth'))


def test_a_test_without_items(tmp_path, error_of):
    Runner.from_cfg(load_config(TOY, work_dir=str(tmp_path), cfg_options={'train_cfg.max_epochs': 1})).train()
    trained = (tmp_path / 'epoch_1.pth', '--work-dir', tmp_path)
    line = error_of('test.py', TOY, *trained, '--cfg-options', 'test_dataloader.dataset.items=0')
    assert line.startswith('test_dataloader.dataset has no items')
    config = tmp_path / 'two.py'
    config.write_text(f"_base_ = {TOY!r}\ntest_evaluator = [dict(type='ReferringIoU')] * 2")
    line = error_of('test.py', config, *trained)
    assert line == 'several metrics of test_evaluator report oIoU: give all but one a prefix'


@pytest.fixture
def referring_run(tmp_path, write_refcoco):
    """`referring_run(options)` checks a training on a tiny set; nothing is trained."""
    root = write_refcoco()

    def run(**options) -> None:
        cfg = load_config(
            str(CONFIGS / 'ldit_vit-t_shapes.py'),
            work_dir=str(tmp_path / 'run'),
            cfg_options={
                'experiment_name': f'run_{len(list(tmp_path.glob("run/*")))}',
                **{
                    f'{name}_dataloader.dataset.{key}': value
                    for name in ('train', 'val')
                    for key, value in dict(
                        data_root=root,
                        ann_file='refcoco/instances.json',
                        refs_file='refcoco/refs(unc).p',
                        data_prefix=dict(img_path='train2014/'),
                    ).items()
                },
                'train_dataloader.num_workers': 0,
                'val_dataloader.num_workers': 0,
                **options,
            },
        )
        check_training(Runner.from_cfg(cfg))

    return run


BEST, STOP = 'default_hooks.checkpoint.save_best', 'custom_hooks'
METRICS, PLATEAU = 'val_evaluator', 'param_scheduler'


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'val_evaluator.generalized': True},
            "default_hooks.checkpoint.save_best='mIoU' is not a score of val_evaluator, "
            'which reports gIoU, cIoU, N-acc, T-acc, P@0.5, .*; name one of these$',
        ),
        ({'val_evaluator.prefix': 'x'}, "save_best='mIoU' .*, which reports x/oIoU, x/mIoU, "),
        ({BEST: ['oIoU', 'miou']}, "save_best='miou' is not a score"),
        (
            {STOP: [dict(type='EarlyStoppingHook', monitor='cIoU', rule='greater')]},
            "monitor of EarlyStoppingHook='cIoU'",
        ),
        ({'val_evaluator.group_by': None, BEST: 'mIoU/place'}, "save_best='mIoU/place' is not a score"),
        ({'val_evaluator.group_by': 'height', BEST: 'mIoU/40'}, "save_best='mIoU/40' is not a score"),
        (
            {'val_evaluator.group_by': 'text', BEST: 'mIoU/left'},
            "save_best='mIoU/left' .*, P@0.9, mIoU/both squares, mIoU/everything, mIoU/squares, mIoU/two corners; "
            'name one',
        ),
        (
            {PLATEAU: [dict(type='ReduceOnPlateauLR', monitor='gIoU', rule='greater')]},
            "monitor of ReduceOnPlateauLR='gIoU' is not a score",
        ),
        (
            {METRICS: [dict(type='ReferringIoU'), dict(type='MaskWriter', output_dir='x')], BEST: 'oIuo'},
            "='oIuo' is no",
        ),
        (
            {METRICS: [dict(type='ReferringIoU'), dict(type='ReferringIoU', protocol='lavt480')]},
            'several metrics of val_evaluator report oIoU: give all but one a prefix',
        ),
    ],
)
def test_scores_that_are_not_reported(referring_run, options, message):
    with pytest.raises(InputError, match=message):
        referring_run(**options)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {BEST: 'auto'},
        {BEST: None},
        {BEST: ['oIoU', 'P@0.9']},
        {'val_evaluator.generalized': True, BEST: 'N-acc'},
        {'val_evaluator.prefix': 'x', 'val_evaluator.group_by': 'text', BEST: 'x/mIoU/everything'},
        {METRICS: [dict(type='ReferringIoU'), dict(type='ReferringIoU', protocol='lavt480', prefix='lavt')]},
        {STOP: [dict(type='EarlyStoppingHook', monitor='mIoU', rule='greater')]},
    ],
)
def test_scores_that_are_reported(referring_run, options):
    referring_run(**options)


def test_a_validation_on_drawn_sentences_is_refused(referring_run):
    with pytest.raises(InputError, match='^val_dataloader.dataset lacks test_mode=True: it would give a random'):
        referring_run(**{'val_dataloader.dataset.test_mode': False})


def test_indices_beyond_the_data(referring_run):
    with pytest.raises(InputError, match=r'\(train\): indices=\[0, 9\] reach beyond the 3 items$'):
        referring_run(**{'train_dataloader.dataset.indices': [0, 9]})
