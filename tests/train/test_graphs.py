"""Recorded steps: the whole logic with a recorder that needs no GPU. tests/gpu holds the real one to the same."""

import planted
import pytest
import torch
from planted import StandIn
from test_training import FAMILIES, SMALL_GAN, SPECTRAL, blobs, detection, gan, through_a_file, timeless

from duel.families import Resnet18Settings
from duel.train.generator import GeneratorTrainer
from duel.train.graphs import MOST, WARM_UP, Graphs, graphs_for
from duel.train.rivals import Rivals

CPU = torch.device("cpu")


def recorded(trainer, recorder=None):
    """The trainer, its steps graphs."""
    trainer.graphs = Graphs(recorder or StandIn(), trainer.parts)
    return trainer


def calls(trainer):
    return trainer.graphs._recorder.calls


def same_state(one, other):
    mine, yours = one.state_dict(), other.state_dict()
    for name, part in one.parts.items():
        if isinstance(part, torch.nn.Module):
            assert all(torch.equal(mine[name][key], yours[name][key]) for key in mine[name]), name
        else:
            for key, state in mine[name]["state"].items():
                assert all(torch.equal(state[k], yours[name]["state"][key][k]) for k in state), (name, key)


EVERY = pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(lambda s=s: gan(s), id=name) for name, s in FAMILIES.items()),
        pytest.param(lambda: gan(SPECTRAL), id="dcgan-spectral"),
        pytest.param(detection, id="cnn"),
        pytest.param(lambda: detection(Resnet18Settings(width=8, depth=2, batch_size=16, jpeg=0.5)), id="resnet18"),
    ],
)


@EVERY
def test_recorded_steps_train_as_plain_ones_do(make):
    plain, graph = make(), recorded(make())
    expected, found = ([r for r in t.run(16 * 16, 8 * 16)] for t in (plain, graph))
    assert timeless(found) == timeless(expected)
    same_state(graph, plain)
    assert graph.graphs.recorded >= 1
    assert graph.graphs.note == ""
    assert graph.graphs.apart == 0.0
    assert calls(graph)["replayed"] > 3


def test_each_kind_of_step_has_its_graph():
    graph = recorded(gan(FAMILIES["dcgan-penalties"]))  # every third step has a penalty
    graph.train_to(16 * 2)
    assert graph.graphs.recorded == 0
    graph.train_to(16 * 20)
    assert graph.graphs.recorded == calls(graph)["recorded"] == 2
    plain = recorded(gan(SMALL_GAN.model_copy(update={"penalty_every": 3})))  # no penalty, whose turn comes
    plain.train_to(16 * 20)
    assert plain.graphs.recorded == 1


def test_each_rival_has_its_graph_up_to_a_bound():
    def against(count):
        panel = [planted.Constant(float(i)) for i in range(count)]
        return GeneratorTrainer("dcgan", SMALL_GAN, blobs(100, 0), lambda fakes: 0.0, image_size=16, device=CPU, seed=3,
                                rivals=Rivals(list(panel), list(panel), 1.0))  # fmt: skip

    few, plain = recorded(against(3)), against(3)
    few.train_to(16 * 40)
    plain.train_to(16 * 40)
    assert few.graphs.recorded == 3
    same_state(few, plain)
    many = recorded(against(MOST + 4))
    many.train_to(16 * 150)
    assert many.graphs.recorded == MOST


def test_a_resumed_training_records_anew_and_goes_on_the_same():
    straight = gan(FAMILIES["dcgan-penalties"])
    straight.train_to(16 * 30)
    first = recorded(gan(FAMILIES["dcgan-penalties"]))
    first.train_to(16 * 17)
    second = recorded(gan(FAMILIES["dcgan-penalties"]))
    second.load_state_dict(through_a_file(first.state_dict()))
    assert second.graphs is None, "its graphs were of the tensors before; on a GPU new ones are made"
    recorded(second).train_to(16 * 30)
    same_state(second, straight)


class Stale(StandIn):
    """Forgets to take new random numbers, or to train, or loses the inputs: what a wrong graph could do."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def record(self, work):
        replay = super().record(work)
        kept = {}

        def wrong():
            if self.fault == "other numbers":
                torch.manual_seed(0)
            if self.fault == "no step" and kept:
                return kept
            if self.fault == "no step":
                kept.update(loss_discriminator=torch.tensor(1.0), loss_generator=torch.tensor(1.0))
                return kept
            values = replay()
            return {k: v * float("nan") for k, v in values.items()} if self.fault == "not a number" else values

        return wrong


@pytest.mark.parametrize("fault", ["other numbers", "no step", "not a number"])
def test_a_graph_that_does_something_else_is_not_used(fault):
    plain, graph = gan(), recorded(gan(), Stale(fault))
    plain.train_to(16 * 12)
    graph.train_to(16 * 12)
    assert "differs from the plain one" in graph.graphs.note
    assert graph.graphs.recorded == 0
    same_state(graph, plain)


class Refuses(StandIn):
    def record(self, work):
        work()  # breaks off somewhere within
        raise RuntimeError("operation not permitted when stream is capturing")


def test_where_nothing_can_be_recorded_training_goes_on_and_says_why():
    plain, graph = gan(), recorded(gan(), Refuses())
    plain.train_to(16 * 12)
    graph.train_to(16 * 12)
    assert graph.graphs.note == "no CUDA graph can be made: operation not permitted when stream is capturing"
    assert calls(graph)["recovered"] == 1
    same_state(graph, plain)


def test_reports_say_once_why_steps_are_plain():
    reports = list(recorded(gan(), Refuses()).run(16 * 12, 16 * 4))
    assert ["note" in report for report in reports] == [True, False, False]
    assert all("note" not in report for report in recorded(gan()).run(16 * 12, 16 * 4))


def test_only_cuda_has_graphs_and_a_variable_switches_them_off(monkeypatch):
    assert graphs_for(CPU, {}) is None
    monkeypatch.setenv("DUEL_GRAPHS", "0")
    assert graphs_for(torch.device("cuda"), {}) is None


def test_the_first_steps_of_each_kind_are_plain():
    graph = recorded(gan())
    graph.train_to(16 * WARM_UP)
    assert calls(graph)["recorded"] == 0
    graph.train_to(16 * (WARM_UP + 1))
    assert calls(graph)["recorded"] == 1
