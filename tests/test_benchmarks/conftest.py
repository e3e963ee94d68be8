import sys

from processes import ROOT

# The benchmarks import each other by name.
sys.path.append(str(ROOT / 'benchmarks'))
