"""Segment pictures by sentences: ``tools/infer.py IMAGE… SENTENCE… [options]``, the same as ``dit-sam infer``."""

import os

# Before torch is imported: waiting threads soon yield to other processes (docs/training.md, "Threads").
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

from dit_sam.cli.infer import main

if __name__ == '__main__':
    main()
