"""What the benchmarks share: sides that are run in turn, medians, and the
lines that a benchmark ends with.

	measures = Measures()
	times = interleave({"visage": run_visage, "peer": run_peer}, rounds=5)
	measures.at_most("time against the peer", median(times["visage"]) / median(times["peer"]), 1.1)
	measures.close()

A line is "measure<TAB>ratio<TAB>bar<TAB>ok|short"; a measure without a bar,
which is only stated, has "-" for its bar and is ok.
"""

import statistics
import sys
import time

median = statistics.median


def say(text=""):
    print(text, flush=True)


def timed(function):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleave(sides, rounds, measure=timed):
    """name → list of what measure gave, the sides taking turns so that a
    noisy moment of the machine is shared: each round starts with another one,
    and every other goes backwards, so that no side has a place or a neighbour
    of its own."""
    results = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        order = names[first:] + names[:first]
        for name in order if number % 2 == 0 else order[::-1]:
            results[name].append(measure(sides[name]))
    return results


def by_round(join, one, other):
    """Median of what `join` makes of two sides of each round: they ran in the
    same seconds, and machines change from one minute to the next."""
    return median([join(*pair) for pair in zip(one, other)])


def spread(values, unit="s", scale=1):
    """Median and range, for people."""
    low, high = min(values) * scale, max(values) * scale
    return "%.4g %s (%.4g to %.4g)" % (median(values) * scale, unit, low, high)


def must_equal(what, left, right):
    """The sides of a benchmark must have computed the same."""
    if left != right:
        sys.exit("bench: %s differs: %r, %r" % (what, left, right))
    say("   equal: %s" % what)


def has_instructions(flag):
    """Does the processor have them?  By the kernel's name."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return " %s " % flag in file.read()


class Measures:
    """The lines at the end."""

    def __init__(self):
        self.lines = []

    def at_most(self, name, ratio, bar):
        self.add(name, ratio, "<= %g" % bar, ratio <= bar)

    def at_least(self, name, ratio, bar):
        self.add(name, ratio, ">= %g" % bar, ratio >= bar)

    def state(self, name, ratio):
        self.add(name, ratio, "-", True)

    def add(self, name, ratio, bar, good):
        self.lines.append("%s\t%.3g\t%s\t%s" % (name, ratio, bar, "ok" if good else "short"))

    def close(self):
        say()
        for line in self.lines:
            say(line)
