"""Write docs/strategies.md from the docstrings of the strategies, so that neither can say what the other does not.

python docs/make_strategies.py           # writes the file
python docs/make_strategies.py --check   # only says whether it is as it should be
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nextmask import selection
from nextmask.selection import EVIDENCE, STRATEGIES, measures, needs, schedules

TARGET = Path(__file__).parent / "strategies.md"

LABELS = ("Source", "Faithful", "Adapted", "Options", "Use", "Cost")
"""What a paragraph of a strategy's docstring may begin with, and a colon."""

OF_THE_SEGMENTER = frozenset(
    (
        "uncertainty",
        "mutual_information",
        "contour_variance",
        "class_uncertainty",
        "class_share",
        "foreground_share",
        "selective",
        "residual",
    )
)
"""Evidence that there is from the first trained segmenter on."""

OF_THE_LABELED = frozenset(("graph_embeddings", "unlabeledness"))
"""Evidence that there is from the first labeled sample on."""

OF_THE_TRUTH = frozenset(("true_class_share",))
"""Evidence that nobody has who does not know the masks already."""

GROUPS = {
    "Cold start": "On embeddings of the images; no mask is needed, and earlier rounds' samples count where there are any.",
    "From the second round on": "On what tells labeled from unlabeled images: some have to be labeled, but it takes no segmenter.",
    "With a segmenter": "On what the last round's segmenter predicts; there has to be one.",
    "Baselines": "Without a look at any image. Whatever is not better than these is not worth its cost.",
    "In simulations only": "On the hidden masks themselves. A bound for other strategies, and refused in a study of one's own.",
}


def main() -> None:
    """Write the file, or with --check end with 1 where it would change."""
    text = document()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text else f"{TARGET} is out of date")
    TARGET.write_text(text, encoding="utf-8")


def document() -> str:
    """Put the whole document together."""
    return "\n\n".join([HEAD, *summaries(), *groups(), *combinations(), *of_measures(), *evidence()]) + "\n"


def grouped() -> dict[str, list[str]]:
    """Sort the strategies' names into groups by what they need."""
    names: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, strategy in STRATEGIES.items():
        asked = set(needs(strategy))
        if asked & OF_THE_TRUTH:
            names["In simulations only"].append(name)
        elif asked & OF_THE_SEGMENTER:
            names["With a segmenter"].append(name)
        elif asked & OF_THE_LABELED:
            names["From the second round on"].append(name)
        else:
            names["Cold start" if asked & {"embeddings", "difficulty"} else "Baselines"].append(name)
    return names


def summaries() -> Iterator[str]:
    """Yield the tables at the top, one a group."""
    for group, names in grouped().items():
        rows = (f"| [{name}](#{name}) | {cell(first_line(STRATEGIES[name]))} | {asked(name)} |" for name in names)
        yield f"**{group}.** {GROUPS[group]}"
        yield "\n".join(["| strategy | what it does | needs |", "| --- | --- | --- |", *rows])


def asked(name: str) -> str:
    """List what a strategy needs."""
    return ", ".join(f"`{evidence}`" for evidence in needs(STRATEGIES[name])) or "nothing"


def groups() -> Iterator[str]:
    """Yield every strategy in full, group by group."""
    for group, names in grouped().items():
        yield f"## {group}"
        for name in names:
            strategy = STRATEGIES[name]
            yield f"### {name}"
            yield first_line(strategy)
            facts = [f"**Needs:** {asked(name)}."]
            if options(strategy):
                facts.append(f"**Defaults:** {options(strategy)}.")
            yield " ".join(facts)
            yield from paragraphs(strategy)


def combinations() -> Iterator[str]:
    """Yield what the package offers beside strategies and measures: how they are asked, noise, limits, schedules."""
    strategies = {unwrapped(strategy) for strategy in STRATEGIES.values()}
    offered = [getattr(selection, name) for name in sorted(selection.__all__)]
    yield "## How strategies are asked, limited and combined"
    yield from sections(thing for thing in offered if inspect.isfunction(thing) and thing not in strategies)
    yield "## Schedules"
    yield text_of(schedules)
    yield from sections(public(schedules))


def of_measures() -> Iterator[str]:
    """Yield the functions that turn one image's probabilities into numbers."""
    yield "## Measures"
    yield text_of(measures)
    yield from sections(public(measures))


def sections(functions: Iterator[Callable[..., Any]] | list[Callable[..., Any]]) -> Iterator[str]:
    """Yield a section a function: its name with its parameters, and its docstring."""
    for function in functions:
        yield f"### {function.__name__}"
        yield f"`{function.__name__}({', '.join(parameters(function))})`"
        yield first_line(function)
        yield from paragraphs(function)


def public(module: Any) -> list[Callable[..., Any]]:
    """List the functions that a module offers, file by file: those of its __all__, or those that it defines."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    found = [thing for thing in (getattr(module, name) for name in names) if inspect.isfunction(thing)]
    offered = [thing for thing in found if thing.__module__.startswith(module.__name__)]
    return sorted(offered, key=lambda thing: (thing.__module__, inspect.unwrap(thing).__code__.co_firstlineno))


def evidence() -> Iterator[str]:
    """Yield the list of all that a strategy may need."""
    rows = (f"| `{name}` | {cell(kind.meaning)} | ({', '.join(kind.axes)}) |" for name, kind in EVIDENCE.items())
    yield "## Evidence"
    yield "Strategies name what they need as parameters; what none of them names is never computed."
    yield "\n".join(["| name | meaning | shape |", "| --- | --- | --- |", *rows])


def unwrapped(strategy: Callable[..., Any]) -> Callable[..., Any]:
    """Find the function inside of partials."""
    while isinstance(strategy, partial):
        strategy = strategy.func
    return strategy


def text_of(thing: Any) -> str:
    """Return a docstring as Markdown."""
    return inspect.cleandoc(thing.__doc__ or "").replace("``", "`")


def first_line(thing: Any) -> str:
    """Return the docstring's summary."""
    return text_of(unwrapped(thing)).split("\n")[0]


def paragraphs(thing: Any) -> Iterator[str]:
    """Yield what follows the summary, labels in bold and examples as code."""
    for part in re.split(r"\n\s*\n", text_of(unwrapped(thing)))[1:]:
        if part.lstrip().startswith(">>>"):
            yield f"```python\n{part}\n```"
        else:
            yield re.sub(rf"^({'|'.join(LABELS)}):", r"**\1:**", part)


def options(strategy: Callable[..., Any]) -> str:
    """List a strategy's options with their defaults."""
    found = inspect.signature(strategy).parameters.values()
    return ", ".join(f"`{option.name}` = {default(option)}" for option in found if option.default is not option.empty)


def parameters(function: Callable[..., Any]) -> Iterator[str]:
    """Yield a function's parameters with their defaults, without types."""
    for name, parameter in inspect.signature(function).parameters.items():
        yield name if parameter.default is parameter.empty else f"{name}={default(parameter).strip('`')}"


def default(parameter: inspect.Parameter) -> str:
    """Write a default that reads the same every day: a value, or the name of what is none."""
    value = parameter.default
    if value is None or isinstance(value, str | int | float | tuple):
        return f"`{value!r}`"
    return str(getattr(value, "__name__", None) or repr(value)) if " at 0x" not in repr(value) else "a function"


def cell(text: str) -> str:
    """Keep a text from ending its cell."""
    return text.replace("|", "\\|")


HEAD = """# Strategies

<!-- Written by docs/make_strategies.py from the docstrings; change those and run it again. -->

A strategy says which samples to annotate next. `nextmask query STUDY -n 20 --strategy NAME` asks one of these, and
`STRATEGIES["NAME"]` is the function itself; its options are given as `--option neighbors=10` or as keywords. Each entry says
where the strategy comes from, what is faithful to the paper and what is adapted, when to use it, and what it costs in time and
memory for N samples, n of them chosen, and embeddings of d dimensions. [scikit-activeml.md](scikit-activeml.md) compares them
with another library, [selection.md](../benchmarks/selection.md) with several for speed."""

if __name__ == "__main__":
    main()
