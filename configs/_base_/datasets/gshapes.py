# The embedded data with sentences that mean several objects or none, in gRefCOCO's form:
# python tools/dataset_converters/shapes.py --generalized --out data/gshapes
#   data/gshapes/images/
#   data/gshapes/gshapes/{instances.json, grefs(unc).json}
_base_ = './shapes.py'

# The words of the grammar, `dit_sam.datasets.shapes.GENERALIZED_VOCABULARY`, for the text encoder.
vocabulary = _base_.vocabulary + (
    'circles squares triangles stars crosses things ones objects shapes all every each both two three are').split()
files = dict(
    type='GRefCOCODataset',
    data_root='data/gshapes/',
    ann_file='gshapes/instances.json',
    refs_file='gshapes/grefs(unc).json')
train_dataloader = dict(dataset=files)
val_dataloader = dict(dataset=files)
test_dataloader = val_dataloader

val_evaluator = dict(generalized=True)
test_evaluator = val_evaluator
