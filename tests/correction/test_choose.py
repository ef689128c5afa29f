"""The choice among corrections, and accuracies class by class."""

import math

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
import zoo
from correction.layers import evaluate, inputs, network
from onebasin.correction import METHODS, class_accuracies, correct
from onebasin.errors import OptionError
from onebasin.tasks import classification_logits

Params = dict[str, Tensor]


def state(model: nn.Module) -> Params:
    """A copy of a model's tensors."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_called_by_name(method: str) -> None:
    """Every row of the table runs, says its name, and returns finite tensors under the same names."""
    model = network("block")
    a, b = state(model), state(network("block", seed=1))
    found = correct(model, ob.merge([a, b]), [a, b], inputs("block", 20), evaluate, method=method)

    assert found.method == method
    assert list(found.params) == list(a)
    assert all(torch.isfinite(tensor).all() for tensor in found.params.values())
    assert METHODS[method].says


def test_the_choice_follows_what_is_there() -> None:
    """Nothing leads to a correction from weights, unlabeled data to a refit, and the notes begin with the reason."""
    model = network("mlp")
    a, b = state(model), state(network("mlp", seed=1))
    merged, x = ob.merge([a, b]), inputs("mlp", 50)
    nothing = correct(model, merged, [a, b], args=(x[0],))
    unlabeled = correct(model, merged, [a, b], iter(x), evaluate)

    assert nothing.method == "rescale_from_weights"
    assert nothing.notes[0] == "rescale_from_weights, because there is no data"
    assert unlabeled.method == "refit"
    assert unlabeled.notes[0] == "refit, because there is unlabeled data and no validation"


def test_labels_decide() -> None:
    """With labels all methods are tried, the network as it is among them, and the best one is taken and told."""
    torch.manual_seed(1)
    a, b = ({n: 4 * torch.randn_like(t) for n, t in state(zoo.mlp(5, 9, 7)).items()} for _ in range(2))
    model = zoo.mlp(5, 9, 7)
    model.load_state_dict(a)
    x = torch.cat(inputs("mlp", 300)).float()
    data = [(x, model(x).argmax(1))]
    best = correct(model, ob.merge([a, b]), [a, b], data, evaluate, validation=data)
    kept = correct(model, a, [a, b], data, evaluate, validation=data)

    assert best.method in METHODS
    assert all(
        f"{name} 0." in best.notes[0] or f"{name} 1." in best.notes[0] for name in METHODS if name != "batchnorm"
    )
    assert kept.method == "none"
    assert kept.notes[0].startswith("none, the best on the validation batches: none 1.0000")
    assert all(torch.equal(kept.params[name], tensor) for name, tensor in a.items())


def test_batchnorm_is_re_estimated_without_touching_the_model() -> None:
    """The method by that name changes running statistics only, and says so where there are none."""
    model = network("block")
    a = state(model)
    found = correct(model, a, [a], inputs("block", 20), evaluate, method="batchnorm")
    changed = {name.rpartition(".")[2] for name, tensor in a.items() if not torch.equal(tensor, found.params[name])}
    plain = network("mlp")

    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(torch.equal(tensor, a[name]) for name, tensor in model.state_dict().items())
    assert correct(plain, plain, [plain], inputs("mlp", 5), evaluate, method="batchnorm").notes == (
        "the model has no BatchNorm: nothing was changed",
    )


def test_classes_are_counted_apart() -> None:
    """Accuracies of every class and what a network lost are those counted by hand."""
    x = torch.eye(3)[[0, 0, 1, 1, 1, 2]]
    weights = {
        "a": {"weight": torch.eye(3)},
        "b": {"weight": torch.eye(3)[[1, 0, 2]]},
        "merged": {"weight": torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 2, 0]])},
    }
    networks = {name: nn.Linear(3, 3, bias=False) for name in weights}
    for name, model in networks.items():
        model.load_state_dict(weights[name])
    batches = [(x[:2], torch.tensor([0, 1])), (x[2:], torch.tensor([1, 1, 0, 2]))]
    found = class_accuracies(networks, batches, classification_logits)

    assert found.counts == (2, 3, 1)
    assert found.accuracies["a"] == pytest.approx((1 / 2, 2 / 3, 1))
    assert found.accuracies["b"] == pytest.approx((1 / 2, 1 / 3, 1))
    assert found.accuracies["merged"] == pytest.approx((1 / 2, 0, 0))
    assert found.lost("merged") == pytest.approx((0, 2 / 3, 1))
    assert found.lost("merged", ["b"]) == pytest.approx((0, 1 / 3, 1))
    assert all(model.training for model in networks.values())


def test_a_class_without_samples_has_no_accuracy() -> None:
    """A class that does not occur counts zero samples and has no figure."""
    model = zoo.mlp(2, 3)
    batches = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))]
    found = class_accuracies({"a": model}, batches, classification_logits)

    assert found.counts == (4, 0, 0)
    assert [math.isnan(share) for share in found.accuracies["a"]] == [False, True, True]
    with pytest.raises(OptionError, match=r"^label: expected one of a, and another network"):
        found.lost("a")
