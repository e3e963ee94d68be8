# gRefCOCO: sentences that mean one object, several, or none. Its files are grefcoco/{instances.json, grefs(unc).json}
# of https://github.com/henghuiding/gRefCOCO, its images COCO train2014. Splits: train, val, testA, testB.
_base_ = './refcoco.py'

files = dict(type='GRefCOCODataset', ann_file='grefcoco/instances.json', refs_file='grefcoco/grefs(unc).json')
train_dataloader = dict(dataset=files)
val_dataloader = dict(dataset=files)
test_dataloader = dict(dataset=files)

val_evaluator = dict(generalized=True)
test_evaluator = val_evaluator
