"""Networks that several claims share, so that one command trains them once."""

from collections.abc import Callable
from dataclasses import replace

from harness import Work
from measures import Data, Params
from networks import ResNet20, small_start, vgg
from torch import nn
from torch.nn import functional
from trainer import Recipe

MLP_WIDTHS = {"mnist": (784, 512, 512, 512, 10), "cifar10": (3072, 512, 512, 512, 10)}
MLP_IMAGES, MLP_EPOCHS = {"mnist": None, "cifar10": 20_000}, {"mnist": 30, "cifar10": 10}
"""Of the perceptrons, with `--quick`; None takes all images there are."""
IMAGES, EPOCHS = 6000, 8
"""Of the small convolutional networks on FashionMNIST, its images halved to 14 x 14 pixels."""
SMALL = (64, 64, "pool", 128, 128, "pool", 256, 256)
CONVOLUTIONAL: dict[str, Callable[[], nn.Module]] = {
    "VGG, 6 convolutions": lambda: vgg(SMALL, channels=1),
    "ResNet-BN x2, 6 convolutions": lambda: ResNet20(2, "bn", 1, 1),
    "ResNet-LN x4, 6 convolutions": lambda: ResNet20(4, "ln", 1, 1),
}
"""Small ones, for those images; the factors are of 16, 32, 64 channels."""


def build_mlp(name: str) -> nn.Module:
    """The perceptron of MNIST or CIFAR-10."""
    return small_start(*MLP_WIDTHS[name])


def mlps(work: Work, name: str, seeds: int = 6) -> tuple[Data, list[Params]]:
    """Networks of different seeds on MNIST or CIFAR-10, and what they were trained on."""
    data = work.images(name, "train", work.pick(MLP_IMAGES[name], None))
    decay = 5e-4 if name == "cifar10" else 0.0
    recipe = Recipe(0, work.pick(MLP_EPOCHS[name], 60), weight_decay=decay, batch=500)
    return data, several(work, f"{name}_mlp", lambda: build_mlp(name), data, recipe, seeds)


def small_images(work: Work, split: str, count: int) -> Data:
    """Images of FashionMNIST, of 14 x 14 pixels, and their labels."""
    images, labels = work.images("fashion-mnist", split, count)
    return functional.avg_pool2d(images, 2), labels


def convolutional(work: Work, label: str) -> tuple[Data, list[Params]]:
    """Six small convolutional networks, and what they were trained on."""
    data = small_images(work, "train", IMAGES)
    recipe = Recipe(0, EPOCHS, 0.03, "sgd", weight_decay=1e-3, batch=64)
    return data, several(work, f"fashion_{slug(label)}", CONVOLUTIONAL[label], data, recipe)


def slug(label: str) -> str:
    """A label as a part of the name of a file."""
    return "".join(c for c in label if c.isalnum())


def several(
    work: Work, name: str, build: Callable[[], nn.Module], data: Data, recipe: Recipe, seeds: int = 6
) -> list[Params]:
    """Networks that differ in their seeds; those that another claim trains now come last."""
    recipes = {f"{name}_{seed}": replace(recipe, seed=seed) for seed in range(seeds)}
    for each, its in recipes.items():
        work.prepare(each, build, data, its, wait=False)
    return [work.network(each, build, data, its) for each, its in recipes.items()]
