# SPDX-License-Identifier: MIT
"""The table: one row per figure, in Markdown."""

from runner import summary

HEADS = ("figure", "{base}", "{ours}", "ratio (middle half)", "goal", "met")


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def goal_text(figure, goal):
    sign = "≥" if figure.floor else "≤"
    unit = f" {figure.unit}" if figure.absolute else " ×"
    return f"{sign} {number(goal)}{unit}"


def is_met(figure, goal, ours, ratio):
    value = ours if figure.absolute else ratio
    if value is None:
        return "?"
    met = value >= goal if figure.floor else value <= goal
    return "yes" if met else "**no**"


def figure_row(figure, rounds, goal):
    base, ours, (low, ratio, high) = summary(rounds)
    spread = "–" if ratio is None else f"{ratio:.2f} ({low:.2f}–{high:.2f})"
    return (figure.title, f"{number(base)} {figure.unit}",
            f"{number(ours)} {figure.unit}", spread,
            goal_text(figure, goal), is_met(figure, goal, ours, ratio))


def failed_row(figure, goal):
    return (figure.title, "–", "–", "failed", goal_text(figure, goal),
            "**no**")


def rows(experiments, results, later=False):
    for experiment in experiments:
        for figure in experiment.figures:
            goal = figure.goals[1 if later else 0]
            if figure.key in results:
                yield figure_row(figure, results[figure.key], goal)
            else:
                yield failed_row(figure, goal)


def render(cells, base, ours):
    heads = [head.format(base=base, ours=ours) for head in HEADS]
    lines = [heads, ["---"] + ["--:"] * 4 + ["---"], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
