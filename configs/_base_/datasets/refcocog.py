# RefCOCOg (umd): train, val, test. The google partition, refs(google).p, has train and val only.
_base_ = './refcoco.py'

files = dict(ann_file='refcocog/instances.json', refs_file='refcocog/refs(umd).p')
train_dataloader = dict(dataset=files)
val_dataloader = dict(dataset=files)
test_dataloader = dict(dataset=files)
