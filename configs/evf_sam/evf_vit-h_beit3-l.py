# EVF-SAM, SAM's ViT-H and BEiT-3-large, by the published recipe (no training code was released). The released weights:
#   python tools/test.py configs/evf_sam/evf_vit-h_beit3-l.py hf://YxZhang/evf-sam/pytorch_model.bin
_base_ = [
    '../_base_/models/evf_sam_vit-h.py',
    '../_base_/datasets/refcoco_evf.py',
    '../_base_/schedules/adamw_15k.py',
    '../_base_/default_runtime.py',
]
