"""``python -m dit_sam_cli``, the same as ``dit-sam``."""

from . import main

main()
