"""Every config takes a training step and predicts on CUDA tensors, on a machine without a GPU.

The backward pass, whose engine needs a real device, runs on meta tensors in test_configs.py.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from test_docs import build_on_meta
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from walk import CONFIGS, NAMES, ORIGINAL, batch, cuda_autocast, load, no_blocking_copies, on_cuda

from dit_sam.models.text_encoders.sentence_cache import SentenceCache

pytestmark = pytest.mark.fake_cuda
if not torch.backends.cuda.is_built():
    pytest.skip('needs a CUDA build of torch: make test-cuda', allow_module_level=True)

MIXED = [name for name in NAMES if '::' in (CONFIGS / name).read_text()]
PRECISIONS = dict(float32=None, bfloat16=torch.bfloat16, float16=torch.float16)


@pytest.fixture(params=PRECISIONS)
def precision(request) -> torch.dtype | None:
    return PRECISIONS[request.param]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch) -> None:
    """Without the cache of sentences, which is used without gradients only.

    It reads some weights at each call and the lengths of new sentences, for which the host waits.
    """
    monkeypatch.setattr(SentenceCache, '__call__', lambda self, sentences, encode, model: encode(sentences))


@pytest.fixture
def mode() -> FakeTensorMode:
    return FakeTensorMode()


@pytest.fixture
def fake(mode) -> Iterator[Callable]:
    """`fake(cfg)` builds the model of a config on fake CUDA tensors, and from then on all new tensors are fake."""
    entered = []

    def build(cfg: Config) -> BaseModel:
        model = build_on_meta(cfg.model)
        mode.__enter__()
        entered.append(mode)
        return on_cuda(model)

    yield build
    for each in entered:
        each.__exit__(None, None, None)


@pytest.mark.parametrize('name', [name for name in NAMES if name not in MIXED])
def test_a_step_stays_on_the_gpu_and_does_not_wait(name, precision, fake):
    cfg = load(name)
    model = fake(cfg).train()
    with no_blocking_copies():
        data = model.data_preprocessor(batch(cfg, True), True)
        with cuda_autocast(precision):
            losses = model.loss(**data)
        total, values = model.parse_losses(losses)
        assert {(value.device.type, value.dtype) for value in (total, *values.values())} == {('cuda', torch.float32)}
        if 'deepspeed' in name:
            # Its steps are DeepSpeed's own.
            return
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        # As with LossLogHook, which reads the norm when it is logged.
        wrapper.writes_norm = False
        for weight in model.parameters():
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight)
        wrapper.step()
        wrapper.zero_grad()


@pytest.mark.parametrize('name', [name for name in NAMES if name not in MIXED])
def test_a_prediction_is_made_on_the_gpu(name, precision, fake):
    cfg = load(name)
    model = fake(cfg).eval()
    data = model.data_preprocessor(batch(cfg, False), False)
    with torch.no_grad(), cuda_autocast(precision):
        sample, _ = model.predict(**data)
    probabilities, mask = sample.seg_logits.data, sample.pred_sem_seg.data
    assert (probabilities.device.type, mask.device.type) == ('cuda', 'cuda')
    assert probabilities.shape == mask.shape == (1, *ORIGINAL) and probabilities.dtype == torch.float32


@pytest.mark.parametrize('name', MIXED)
def test_encoders_in_other_models_run_on_the_gpu(name, precision, fake, mode):
    """The parts do not wait. mmseg's losses and predictions do, as they count pixels, and are only run.

    mmdet's decide by content, which nothing can run without content. mmseg's are run on whole images, because sliding
    windows check their cover.
    """
    cfg = load(name)
    model = fake(cfg).train()
    images, encodings = torch.zeros(2, 3, 512, 512, device='cuda'), []
    texts = [part for name, part in model.named_modules() if name == 'backbone.text_encoder']
    for part in texts:
        part.register_forward_hook(lambda *_: encodings.append(1))
    with no_blocking_copies(), cuda_autocast(precision):
        for _ in range(3):
            outputs = model(images)
    assert on_the_gpu(outputs)
    # A fixed text is encoded once; that waits, as `no_cache` says.
    assert len(encodings) == len(texts)
    if cfg.model.type != 'EncoderDecoder':
        return
    samples = batch(cfg, True)['data_samples']
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(512, 512), pad_shape=(512, 512)))
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, 512, 512, dtype=torch.long, device='cuda'))
    # With it, counts and sizes that depend on content are symbols.
    mode.shape_env = ShapeEnv()
    with cuda_autocast(precision):
        assert on_the_gpu(model(images, samples, mode='loss'))
        model.test_cfg.mode = 'whole'
        with torch.no_grad():
            predictions = model.eval()(images, samples, mode='predict')
    for sample in predictions:
        assert on_the_gpu((sample.seg_logits.data, sample.pred_sem_seg.data))
        assert sample.pred_sem_seg.data.shape == (1, *ORIGINAL)


def on_the_gpu(values: object) -> bool:
    """Whether there are tensors among nested values, all on the GPU."""
    return {tensor.device.type for tensor in torch.utils._pytree.tree_leaves(values)} == {'cuda'}


def test_mistakes_are_detected_on_fake_tensors():
    with FakeTensorMode(), no_blocking_copies():
        here, there = torch.zeros(3), torch.zeros(3, device='cuda')
        with pytest.raises(RuntimeError, match='device'):
            here + there
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(AssertionError, match='from cpu to cuda'):
            here.to('cuda')
        here.to('cuda', non_blocking=True)
        with pytest.raises(AssertionError, match='from cuda'):
            there.cpu()
        with pytest.raises(AssertionError, match='from cpu to cuda'):
            torch.tensor([1, 2], device='cuda')
