# SPDX-License-Identifier: MIT
"""
Runs experiments: the subjects of a round one after the other, their order
reversed from round to round, so that a machine that slows down or speeds up
meanwhile hurts all of them alike.
"""

import statistics
import sys
from collections import defaultdict

import proc
from proc import BenchError


class Bench:
    """One run: the stub, the clients, and how long to look."""

    def __init__(self, home, stub, clients, subjects, quick):
        self.home, self.stub, self.clients = home, stub, clients
        self.subjects = subjects  # subclasses of Proxy, the baseline first
        self.quick = quick
        self.streams = 500 if quick else 2000
        self.round = 0
        self._started = 0

    def rounds_of(self, experiment, rounds):
        repeat = experiment.repeat
        return rounds * (max(1, repeat // 2) if self.quick else repeat)

    def lineup(self, experiment):
        """((subject, setup) of the baseline, the same of ours)."""
        base, ours = self.subjects
        if experiment.beside:
            return (ours, experiment.beside), (ours, experiment.setup)
        return (base, experiment.setup), (ours, experiment.setup)

    def start(self, subject, setup):
        self._started += 1
        home = self.home / f"{subject.name}-{self._started}"
        cpus = proc.cpu_sets()[0] if setup.pinned else None
        return subject(home, setup, cpus, self.stub)


class Servers:
    """Keeps the proxies of one setup running from experiment to experiment."""

    def __init__(self, bench):
        self.bench = bench
        self.lineup, self.running = None, []

    def get(self, experiment):
        lineup = self.bench.lineup(experiment)
        if experiment.fresh or lineup != self.lineup:
            self.close()
            for subject, setup in lineup:
                self.running.append(self.bench.start(subject, setup))
            self.lineup = None if experiment.fresh else lineup
        return self.running

    def close(self):
        for proxy in self.running:
            proxy.close()
        self.lineup, self.running = None, []


def run_round(bench, experiment, proxies):
    """[{figure: value}] in the order of the proxies."""
    subjects = ([bench.stub] if experiment.direct else []) + list(proxies)
    order = subjects if bench.round % 2 == 0 else subjects[::-1]
    values = {id(s): experiment.measure(bench, s) for s in order}
    direct = values.get(id(bench.stub), defaultdict(float))
    return [{key: value - direct[key]
             for key, value in values[id(proxy)].items()}
            for proxy in proxies]


def run_experiment(bench, servers, experiment, rounds):
    """{figure: [(value of each proxy), one a round]}."""
    found = defaultdict(list)
    rounds = bench.rounds_of(experiment, rounds)
    for bench.round in range(rounds):
        proxies = servers.get(experiment)
        columns = run_round(bench, experiment, proxies)
        for key in columns[0]:
            found[key].append(tuple(column[key] for column in columns))
    tell(f"{experiment.name}: {rounds} rounds")
    return found


def run_all(bench, experiments, rounds):
    """
    ({figure: rounds}, {experiment: why it failed}). An experiment that fails
    does not keep the others from running.
    """
    results, failures = {}, {}
    servers = Servers(bench)
    try:
        for experiment in experiments:
            try:
                results.update(
                    run_experiment(bench, servers, experiment, rounds))
            except (BenchError, OSError) as error:
                failures[experiment.name] = str(error)
                tell(f"{experiment.name}: {error}")
                servers.close()
    finally:
        servers.close()
    return results, failures


def tell(text):
    print(text, file=sys.stderr, flush=True)


def quartiles(values):
    if len(values) < 2:
        return (values or [None])[:1] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def summary(rounds):
    """(median of the baseline, of ours, quartiles of the ratios)."""
    ratios = [ours / base for base, ours in rounds if base > 0]
    return (statistics.median(base for base, _ in rounds),
            statistics.median(ours for _, ours in rounds),
            quartiles(ratios))
