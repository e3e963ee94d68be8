# EVF-SAM's weights for whole categories too, asked for by a sentence such as "[semantic] hair". They were trained on
# Objects365, ADE20K, PartImageNet, Pascal-Part and human parsing too, which are not here: for inference and testing.
_base_ = './evf_vit-h_beit3-l.py'
model = dict(text_encoder=dict(tokenizer='YxZhang/evf-sam-multitask'))
