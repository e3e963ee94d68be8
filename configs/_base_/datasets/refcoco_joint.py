# RefCOCO, RefCOCO+ and RefCOCOg (umd) together, a third of the items each. They split the same images in different
# ways, so val and test images of any of them are left out of all. Files as in refcoco.py; scores on RefCOCO val.
_base_ = './refcoco.py'

# Folders such as 'refcoco' in place of files would hold out the google partitions too, which leaves far less.
held_out = ['refcoco/refs(unc).p', 'refcoco+/refs(unc).p', 'refcocog/refs(umd).p']
part = dict(
    type='RefCOCODataset',
    data_root={{_base_.data_root}},
    split='train',
    data_prefix={{_base_.images}},
    filter_cfg=dict(evaluation_images=held_out),
    pipeline={{_base_.train_pipeline}},
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='WeightedConcatSampler', weights=[1, 1, 1]),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(part, ann_file='refcoco/instances.json', refs_file='refcoco/refs(unc).p'),
            dict(part, ann_file='refcoco+/instances.json', refs_file='refcoco+/refs(unc).p'),
            dict(part, ann_file='refcocog/instances.json', refs_file='refcocog/refs(umd).p'),
        ],
    ),
)
