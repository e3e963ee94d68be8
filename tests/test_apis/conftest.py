import pytest
from tiny_inferencer import save_random_weights, tiny_config

from dit_sam.apis import ReferringInferencer


@pytest.fixture(scope='session')
def weights(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')
    save_random_weights(path)
    return path


@pytest.fixture(scope='session')
def inferencer(weights) -> ReferringInferencer:
    return ReferringInferencer(tiny_config(), weights, device='cpu', show_progress=False)
