"""Which evaluation pictures were trained on: ``tools/analysis_tools/audit.py``, the same as ``dit-sam audit``."""

from dit_sam_cli.audit import main

if __name__ == '__main__':
    main()
