# RefCOCO+ (unc): train, val, testA, testB.
_base_ = './refcoco.py'

files = dict(ann_file='refcoco+/instances.json', refs_file='refcoco+/refs(unc).p')
train_dataloader = dict(dataset=files)
val_dataloader = dict(dataset=files)
test_dataloader = dict(dataset=files)
