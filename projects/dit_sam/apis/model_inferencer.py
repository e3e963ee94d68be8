"""Open, run and save the model of an inferencer."""

import os
import os.path as osp
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar
from warnings import catch_warnings, filterwarnings

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.registry import MODELS
from torch import nn

from ..compat import usual_device
from ..errors import InputError
from ..mmengine_extras import prepare_process
from ..models.lora import drop_lora, merge_lora
from ..utils.large_models import load_in_pieces, without_initialization
from .model_card import describe_training, epoch_and_scores
from .model_source import DEFAULT_CHECKPOINT, DRAWINGS_ONLY, ModelInput, check_device, check_dtype, resolve_model
from .pairs import PairPipeline
from .pretrained import check_new_folder, naming_what_cannot_be_built, open_pretrained, write_pretrained

T = TypeVar('T', bound='ModelInferencer')


class ModelInferencer(BaseInferencer):
    """mmengine's inferencer with a model that is opened strictly, shared as a folder, and run in 16 bits if asked for.

    Args and errors are those of `ReferringInferencer`.

    Attributes:
        source: Which config and weights the model has, in one line.
    """

    def __init__(
        self,
        model: ModelInput = None,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
        dtype: str = 'float32',
    ) -> None:
        check_device(device)
        self._dtype = check_dtype(dtype, device)
        init_default_scope(scope)
        prepare_process()
        config, self._weights = resolve_model(model, weights, scope)
        self._recorded: dict = {}
        self.source = 'random weights'
        super().__init__(config, self._weights, device or usual_device(), scope=scope, show_progress=show_progress)

    @classmethod
    def from_pretrained(
        cls: type[T],
        name: str | os.PathLike,
        device: str | None = None,
        show_progress: bool = True,
        dtype: str = 'float32',
    ) -> T:
        """Open a shared model; no code in it is run.

        Args:
            name: A name of `dit-sam list-models`; a folder that `save_pretrained` wrote, or a copy of EVF-SAM's
                repository; or a repository of Hugging Face's hub, `user/name` or `user/name@revision`, which is
                downloaded once.
            device: As in the constructor.
            show_progress: As in the constructor.
            dtype: As in the constructor.

        Raises:
            FileNotFoundError: There is no such folder, repository, revision or file.
            CheckpointError: The hub cannot be reached or denies access, or the weights are damaged or do not fit.
            InputError: The config is damaged, cannot be built, or would do something else than build parts of this
                project, mmseg, mmcv and torch.
        """
        check_device(device)
        prepare_process()
        config, weights = open_pretrained(name)
        with naming_what_cannot_be_built(name):
            return cls(config, weights, device=device, show_progress=show_progress, dtype=dtype)

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        license: str | None = None,
        half: bool = False,
        merge: bool = False,
        repository: str = '',
    ) -> None:
        """Write the model to a folder that `from_pretrained` opens, also on a machine without a network.

        The folder gets weights, config, tokenizer and a model card, and appears when it is complete.

        Args:
            folder: A folder that does not exist or is empty.
            license: The license of the weights, as the hub names it, such as 'apache-2.0'. The card says so if it is
                not stated.
            half: Whether weights are stored in float16; loading converts them back to float32.
            merge: Whether LoRA is merged into the weights.
            repository: `user/name` for the model card, if the folder will be uploaded.

        Raises:
            InputError: The folder has content or cannot be written, the config has parts or values that cannot be
                shared, there is no LoRA to merge, or the model was opened in 16 bits.
            FileNotFoundError: The tokenizer that the config names is not there.
        """
        check_new_folder(folder)
        if self._dtype is not None:
            raise InputError(
                f'the model was opened in {self._dtype}, which has lost digits: open it in float32 to save it'
            )
        model, config = self.model, deepcopy(self.cfg)
        # It may have been set after the model was opened.
        if getattr(model.decode_head, 'threshold', None) is not None:
            config.model.decode_head.threshold = model.decode_head.threshold
        if merge:
            model = deepcopy(model)
            if not merge_lora(model):
                raise InputError('the model has no LoRA: leave out merge')
            drop_lora(config.model)
        filename = getattr(config, 'filename', None)
        about = dict(name=osp.splitext(osp.basename(filename))[0] if filename else None, license=None)
        about = config.get('shared') or dict(about, training=describe_training(config, self._recorded))
        about = dict(about, license=license or about['license'])
        write_pretrained(folder, config, model.state_dict(), about, half, repository)

    def _init_pipeline(self, cfg: Config | ConfigDict) -> PairPipeline:
        return PairPipeline(cfg)

    def _init_collate(self, cfg: Config | ConfigDict) -> Callable:
        """As in mmengine, without its warning that mmseg has no registry of functions."""
        return super()._init_collate(cfg) if 'collate_fn' in cfg.test_dataloader else pseudo_collate

    def _init_visualizer(self, cfg: Config | ConfigDict) -> Visualizer:
        """Only a window: the pictures come from `draw_masks`."""
        return Visualizer()

    def _init_model(self, cfg: Config | ConfigDict, weights: str | None, device: str = 'cpu') -> nn.Module:
        """The model in evaluation mode; see `load_in_pieces`. Without weights they are random."""
        if weights is None:
            return super()._init_model(cfg, weights, device)
        # A program that opens a model draws the same random numbers afterwards. mmseg's losses warn of defaults that
        # matter only in training.
        with without_initialization(), torch.random.fork_rng(devices=[]), catch_warnings():
            filterwarnings('ignore', category=UserWarning, module='mmseg')
            model = MODELS.build(cfg.model)
        model.cfg = cfg
        name = getattr(cfg, 'filename', None)
        self.source = f'config {name or "(not a file)"}, weights {weights}'
        print_log(self.source, 'current')
        if weights == DEFAULT_CHECKPOINT:
            print_log(DRAWINGS_ONLY, 'current')
        checkpoint = load_in_pieces(model, weights, self._dtype, f'config {name}' if name else 'the config')
        self._recorded = epoch_and_scores(checkpoint)
        return model.to(device).eval()

    @torch.no_grad()
    def forward(self, inputs: dict, **kwargs: Any) -> Any:
        """The predictions for a batch."""
        with self._autocast():
            return super().forward(inputs, **kwargs)

    def _autocast(self) -> torch.autocast:
        device = self.model.data_preprocessor.device.type
        return torch.autocast(device, self._dtype or torch.bfloat16, enabled=self._dtype is not None)
