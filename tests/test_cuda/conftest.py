import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The textbook's form, and the small training that others compare bit by bit.
sys.path += [str(ROOT / 'benchmarks'), str(ROOT / 'tests' / 'test_training')]
