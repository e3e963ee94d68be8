# EVF-SAM's weights for whole categories too, asked for by a sentence such as "[semantic] hair". They were trained on
# Objects365, ADE20K, PartImageNet, Pascal-Part and human parsing too, which are not here: for inference and testing.
_base_ = [
    '../_base_/models/evf_sam_vit-h.py',
    '../_base_/datasets/refcoco_evf.py',
    '../_base_/schedules/adamw_15k.py',
    '../_base_/default_runtime.py',
]
model = dict(text_encoder=dict(tokenizer='YxZhang/evf-sam-multitask'))
