"""What a key of a config is: its default, what it may hold, and what it means."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from fer_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a key may hold.

    `expected` says it in words. `holds` tells whether a value is possible; for a value of a type that it cannot judge
    it may raise `TypeError`, and where it knows more to say than `expected` does, an `InputError`.
    """

    expected: str
    holds: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a config: its default, what it may hold, and its meaning in a sentence.

    `kind` is the type of a value where the default is None.
    """

    default: Any
    rule: Rule
    meaning: str
    kind: type | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` that names the key, what it holds and what it may hold, unless `value` is possible."""
        try:
            holds = self.rule.holds(value)
        except TypeError:  # a value of another type, where the default is None or a tuple
            holds = False
        if not holds:
            raise InputError(f"config.{name}={value!r}: expected {self.rule.expected}")


SWITCH = Rule("True or False", lambda value: isinstance(value, bool))


def one_of(choices: Sequence[str]) -> Rule:
    """Return the rule of one out of some words."""
    return Rule("one of " + ", ".join(choices), lambda value: value in choices)


def number(low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False) -> Rule:
    """Return the rule of a finite number from `low` to `high`; an open bound is itself not possible."""

    def holds(value):
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        return above and below and -math.inf < value < math.inf

    bounds = f"{'above' if low_open else 'at least'} {low:.10g}"
    if high != math.inf:
        bounds += f" and {'below' if high_open else 'at most'} {high:.10g}"
    return Rule(f"a number {bounds}", holds)


def none_or(kind: type, expected: str, holds: Callable[[Any], Any]) -> Rule:
    """Return the rule of None, or a value of the type `kind` for which `holds`."""
    return Rule(f"None or {expected}", lambda value: value is None or (isinstance(value, kind) and holds(value)))
