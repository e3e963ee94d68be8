"""Segment pictures by sentences: ``tools/infer.py IMAGE… SENTENCE… [options]``, the same as ``dit-sam infer``."""

from dit_sam_cli.infer import main

if __name__ == '__main__':
    main()
