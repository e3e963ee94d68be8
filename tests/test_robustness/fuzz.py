"""Try thousands of bad inputs: `python tests/test_robustness/fuzz.py [--count N] [--only TEXT]`.

Makes every form of input N times at random and passes it to the code that reads it. Each form runs in its
own process, so that crashes, hangs and unlimited memory are detected. Prints the table of docs/robustness.md; the exit
status is 1 if an outcome is not the documented one.
"""

import argparse
import logging
import multiprocessing
import os
import queue
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OPENCV_LOG_LEVEL', 'OFF')

from fuzzing import Form, load_forms, try_once
from subjects import inferencer

# Beyond what a process has after the imports. 200 megapixels take 0.6 GB in 8 bits and 0.8 GB in float32.
GIGABYTES = 6
# Seconds without output after which a process counts as hanging, if it uses no CPU time.
SILENCE = 600


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=500, help='tries of each form, some of the slow ones fewer')
    parser.add_argument('--only', default='', help='forms whose kind or text has this in it')
    parser.add_argument('--first', type=int, default=0, help='first seed; with --count 1 a single try')
    return parser.parse_args()


def try_many(form: Form, seeds: range, results: multiprocessing.Queue) -> None:
    """Try a form with each seed; put the seed into the queue before each try, and the outcome after it."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, 'w') as null:
        for stream in (1, 2):  # image decoders print a lot
            os.dup2(null.fileno(), stream)
        for seed in seeds:
            results.put(('start', seed))
            try:
                results.put((try_once(form, seed, Path(folder)), seed))
            except Exception:
                results.put((traceback.format_exc(limit=-3, chain=False), seed))
            used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
            if used > GIGABYTES:
                results.put((f'{used:.1f} GB of memory', seed))
                break
    results.put(('end', 0))


def run(form: Form, seeds: range) -> tuple[Counter, dict[int, str]]:
    """The number of each outcome, and the failures by seed."""
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    process = context.Process(target=try_many, args=(form, seeds, results))
    process.start()
    outcomes, failures, seed, outcome = Counter(), {}, seeds.start, ''
    while outcome != 'end':
        outcome, seed = answer(results, process) or ('', seed)
        if outcome in ('accepted', 'refused'):
            outcomes[outcome] += 1
        elif not outcome:
            process.kill()
            process.join()
            failures[seed] = f'the process did not answer any more (exit code {process.exitcode})'
            break
        elif outcome not in ('start', 'end'):
            failures[seed] = outcome
    process.join()
    return outcomes, failures


def answer(results: multiprocessing.Queue, process: multiprocessing.Process) -> tuple[str, int] | None:
    """The next message of a process; None if it ended, or sends nothing for too long."""
    for _ in range(SILENCE):
        try:
            return results.get(timeout=1)
        except queue.Empty:
            if not process.is_alive():
                return None
    return None


def main() -> int:
    args = parse_args()
    forms = [form for form in load_forms() if args.only in f'{form.kind} {form.text}']
    # Once for all processes.
    inferencer()
    failed, total, kinds, start = 0, Counter(), Counter(), time.time()
    print('| Kind | Input | Outcome | Accepted | Refused |\n|---|---|---|---|---|')
    for form in forms:
        count = max(1, round(args.count * form.share))
        outcomes, failures = run(form, range(args.first, args.first + count))
        line = f'| {form.kind} | {form.text} | {" or ".join(form.outcomes)}: {form.says} '
        print(f'{line}| {outcomes["accepted"]:,} | {outcomes["refused"]:,} |', flush=True)
        total, failed = total + outcomes, failed + len(failures)
        kinds[form.kind] += sum(outcomes.values())
        for seed, what in list(failures.items())[:3]:
            again = f'--only "{form.text}" --count 1 --first {seed}'
            print(f'FAILED, again by {again}:\n{what}', file=sys.stderr, flush=True)
    print('\n' + ', '.join(f'{kind} {count:,}' for kind, count in kinds.items()))
    print(
        f'{sum(total.values()):,} tried in {time.time() - start:.0f} s: {total["accepted"]:,} accepted, '
        f'{total["refused"]:,} refused, {failed:,} otherwise'
    )
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
