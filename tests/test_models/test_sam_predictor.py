"""Points and boxes on photographs, as the configs of SAM have them, against segment_anything's predictor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file
from tiny import randomize
from torch import nn

from dit_sam.apis import ReferringInferencer
from dit_sam.compat import import_sam_modeling
from dit_sam.models.weights import SAM

ROOT = Path(__file__).parents[2]
ARCH = dict(embed_dims=32, depth=2, num_heads=2, global_attn_indexes=(1,))
BOX, POINTS = [120, 80, 500, 371.5], [[300, 200, 1], [521.5, 33, 0]]
# Points and boxes of the three answers: points alone, a box alone, both.
GIVEN = dict(points=[POINTS, None, POINTS], boxes=[None, BOX, BOX])


@torch.no_grad()
def predict(sam: nn.Module, image: np.ndarray) -> list[np.ndarray]:
    """The masks that segment_anything 1.0's `SamPredictor`, which needs torchvision, predicts for an RGB image.

    Its steps one by one; of torchvision it has `resize` of a PIL image alone, which is Pillow's.
    """
    height, width = image.shape[:2]
    scale = 1024 / max(height, width)
    size = int(height * scale + 0.5), int(width * scale + 0.5)
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    embedding = sam.image_encoder(sam.preprocess(torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]))
    factor, found = torch.tensor([size[1] / width, size[0] / height]), []
    for points, box in zip(*GIVEN.values()):
        if points is not None:
            points = torch.tensor(points)[None]
            points = points[..., :2] * factor, points[..., 2]
        if box is not None:
            box = (torch.tensor(box).reshape(2, 2) * factor).reshape(1, 4)
        sparse, dense = sam.prompt_encoder(points, box, None)
        masks, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
        found.append((sam.postprocess_masks(masks, size, (height, width)) > sam.mask_threshold)[0, 0].numpy())
    return found


@pytest.fixture(scope='module')
def sam() -> nn.Module:
    torch.manual_seed(3)
    modeling = import_sam_modeling()
    encoder = modeling.ImageEncoderViT(
        1024,
        16,
        embed_dim=32,
        depth=2,
        num_heads=2,
        out_chans=32,
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
    )
    decoder = modeling.MaskDecoder(
        transformer_dim=32, transformer=modeling.TwoWayTransformer(2, 32, 8, 64), iou_head_hidden_dim=256
    )
    return randomize(modeling.Sam(encoder, modeling.PromptEncoder(32, (64, 64), (1024, 1024), 16), decoder)).eval()


@pytest.fixture(scope='module')
def inferencer(sam, tmp_path_factory) -> ReferringInferencer:
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'sam_vit-b.py')
    cfg.model.backbone.update(arch=ARCH, out_channels=32, init_cfg=None)
    cfg.model.decode_head.update(in_channels=32, mlp_dim=64, init_cfg=None)
    path = tmp_path_factory.mktemp('sam') / 'sam.safetensors'
    save_file(SAM.to_ours(sam.state_dict()), path)
    return ReferringInferencer(cfg, str(path), device='cpu')


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shades with noise over them, RGB."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(coarse) + random.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('size', [(426, 640), (1500, 700)], ids=str)
def test_masks_equal_those_of_the_predictor(sam, inferencer, size):
    """One picture is enlarged, the other one shrunk. Points half a pixel off would cost 0.0003 to 0.0005."""
    image = photograph(*size)
    found = inferencer(image[..., ::-1], ['points', 'box', 'both'], batch_size=3, **GIVEN)['predictions']
    for prediction, expected in zip(found, predict(sam, image), strict=True):
        assert 0.2 < expected.mean() < 0.8
        mask = prediction['mask']
        assert (mask & expected).sum() / (mask | expected).sum() >= 0.9999, prediction['sentence']
