# EVF-SAM on the embedded data, from random weights: SAM's encoder trains too, as there is no SAM to start from.
_base_ = './ldit_evf_vit-t_shapes.py'
model = dict(backbone=dict(instruction=None), decode_head=dict(type='EVFSAMHead', align_corners=False))
