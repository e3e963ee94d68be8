# dit_sam_vit-b.py with Dice beside BCE and a threshold of its own: an L-DIT that was trained on without Dice lost
# (docs/reproduction.md). The IoU head predicts the score of a mask, at no measurable cost.
_base_ = './dit_sam_vit-b.py'

model = dict(
    decode_head=dict(
        threshold=0.5,
        predict_iou=True,
        loss_decode=[
            dict(type='BinaryCrossEntropyLoss', loss_weight=5.0),
            dict(type='BinaryDiceLoss', loss_weight=1.0),
        ],
    )
)
