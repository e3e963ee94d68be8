# RefCOCO (unc) from prepared files, which open at once; the items are those of refcoco.py:
#   python tools/dataset_converters/refcoco.py data/coco --out data/coco/prepared
# Another split: --cfg-options test_dataloader.dataset.ann_file=prepared/refcoco_unc_testA.safetensors
# Another set: refcoco+_unc_*, refcocog_umd_*, grefcoco_unc_*, ...
_base_ = './refcoco.py'

prepared = dict(_delete_=True, type='ReferringDataset', data_root={{_base_.data_root}}, data_prefix={{_base_.images}})
train_dataloader = dict(
    dataset=dict(ann_file='prepared/refcoco_unc_train.safetensors', pipeline={{_base_.train_pipeline}}, **prepared)
)
val_dataloader = dict(
    dataset=dict(
        ann_file='prepared/refcoco_unc_val.safetensors', pipeline={{_base_.test_pipeline}}, test_mode=True, **prepared
    )
)
test_dataloader = val_dataloader
