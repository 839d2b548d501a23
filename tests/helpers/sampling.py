"""Which cases of a parametrised test the quick suite runs; the others are marked exhaustive.

A test says how much of the product of its parameters has to be met:

    @pytest.mark.each_once  each value of each parameter, in some case
    @pytest.mark.pairwise   each pair of values of two parameters, in some case
    @pytest.mark.few(n)     n cases, spread over all of them
"""

import itertools

import pytest


def of_a_case(values, size):
    """Return the values that a case meets, with their names, or the pairs of them."""
    named = list(values.items())
    return set(itertools.combinations(named, min(size, len(named))))


def covering(cases, size):
    """Return the places of few cases that meet all that any of them meets.

    Each time the case that meets most of what is left is taken, the first of those that do.

    Args:
        cases: for each case its values by the parameters' names.
        size: 1 for each value, 2 for each pair.
    """
    met = [of_a_case(values, size) for values in cases]
    left = set().union(*met)
    taken = []
    while left:
        best = max(range(len(met)), key=lambda place: len(met[place] & left))
        taken.append(best)
        left -= met[best]
    return sorted(taken)


def values_of(item):
    """Return what stands for the value of each parameter of a case: itself, or which object."""
    plain = (str, int, float, bool, tuple, type(None))
    return {
        name: value if isinstance(value, plain) else id(value)
        for name, value in item.callspec.params.items()
    }


def taken_of(group, marker):
    """Return the places of the cases that the quick suite runs."""
    if marker.name == "few":
        (count,) = marker.args
        return {place * len(group) // count for place in range(min(count, len(group)))}
    size = 1 if marker.name == "each_once" else 2
    return set(covering([values_of(item) for item in group], size))


def mark(items):
    """Mark as exhaustive the cases that the quick suite does without."""
    groups = {}
    for item in items:
        for name in ("each_once", "pairwise", "few"):
            marker = item.get_closest_marker(name)
            if marker and hasattr(item, "callspec"):
                key = (item.path, item.nodeid.partition("[")[0])
                groups.setdefault(key, (marker, []))[1].append(item)
                break
    for marker, group in groups.values():
        for place in set(range(len(group))) - taken_of(group, marker):
            group[place].add_marker(pytest.mark.exhaustive)
