"""Score the masks of any model: ``tools/analysis_tools/score.py PREDICTIONS --data DATA``, as ``dit-sam score``."""

from dit_sam_cli.score import main

if __name__ == '__main__':
    main()
