"""What the options of the benchmarks choose from; importing it takes no time."""

# Sizes of `SAMViT`, and a config of each.
CONFIG_OF = dict(tiny='ldit_vit-t_shapes.py', base='ldit_vit-b.py', large='ldit_vit-l.py', huge='ldit_vit-h.py')
ARCHS = sorted(CONFIG_OF)
# The paper's: 64 images on 8 GPUs.
BATCH = 8
# Case: instruction, and whether blocks attend in windows.
CASES = {
    'ldit': ('LayerWiseInstruction', False),
    'ldit-windowed': ('LayerWiseInstruction', True),
    'edit': ('EndToEndInstruction', False),
    'edit-windowed': ('EndToEndInstruction', True),
    'sam': (None, True),
}
