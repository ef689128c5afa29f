"""One table of architectures: the package each comes from, how to build it small with random weights, and its inputs.

A name is `package/architecture`. Packages are imported when an entry is built; `torch` is always there, `twin` stands
for the hand-written twins of this folder.
"""

import copy
import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from architectures import builtins as own
from architectures import twins
from architectures.twins import Classifier, Tokens, conv

Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        build: makes the model, given its package.
        inputs: makes the inputs of one forward pass: a tuple of positional ones, or named ones.
    """

    build: Callable[[Any], nn.Module]
    inputs: Callable[[], Inputs]


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor]]:
    """A model of the table with random weights, in eval mode, and its positional and named inputs.

    Raises:
        ImportError: if its package is not installed or cannot be imported, with the reason.
    """
    entry = CATALOGUE[name]
    package = load(name.partition("/")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Those of other people's constructors.
        model = entry.build(package).eval()
    inputs = entry.inputs()
    return (model, inputs, {}) if isinstance(inputs, tuple) else (model, (), dict(inputs))


@functools.cache
def load(package: str) -> ModuleType:
    """Import a package.

    Raises:
        ImportError: if it is not installed or cannot be imported, with the reason.
    """
    if package in ("torch", "twin"):
        return torch if package == "torch" else twins
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{package} is not installed")
    try:
        with warnings.catch_warnings(), _without_missing_kernels():
            warnings.simplefilter("ignore")  # Those of other people's modules.
            # The others import it when it is there, and some of them only later, where the way is no longer paved.
            if importlib.util.find_spec("torchvision") is not None:
                importlib.import_module("torchvision")
            module = importlib.import_module(package)
    except (AttributeError, OSError, RuntimeError) as error:
        raise ImportError(f"{package} cannot be imported: {error}") from error
    if package == "transformers":
        module.logging.set_verbosity_error()
    return module


@contextmanager
def _without_missing_kernels() -> Iterator[None]:
    """Let a torchvision that was built for CUDA be imported beside a CPU-only torch.

    It registers shape functions for operations of its compiled library, which is missing then; no model needs them.
    """
    register = torch.library.register_fake

    def tolerant(op: Any, *args: Any, **kwargs: Any) -> Any:
        library, _, short = str(op).partition("::")
        if library == "torchvision" and not hasattr(torch.ops.torchvision, short):
            return lambda function: function
        return register(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        yield
    finally:
        torch.library.register_fake = register


class Picked(nn.Module):
    """A model of whose outputs only one counts: the hidden states beside it would pin the streams."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: Tensor) -> Tensor:
        """The output of that name."""
        return self.model(**inputs)[self.output]


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _x(*shape: int) -> Callable[[], Inputs]:
    return lambda: (_normal(*shape),)


def _image(size: int) -> Callable[[], Inputs]:
    return _x(2, 3, size, size)


def _named(**shapes: tuple[int, ...]) -> Callable[[], Inputs]:
    """Numbers for the names of images, spectra and waves, tokens for all others."""

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        if name in ("pixel_values", "input_features", "input_values"):
            return _normal(*shape)
        return torch.randint(3, 50, shape, generator=torch.Generator().manual_seed(1))

    return lambda: {name: tensor(name, shape) for name, shape in shapes.items()}


_TEXT = _named(input_ids=(2, 7))
_PAIR = _named(input_ids=(2, 7), decoder_input_ids=(2, 5))
_PIXELS = _named(pixel_values=(2, 3, 32, 32))


def _submodule(package: ModuleType, name: str) -> Any:
    """A module that a function of the same name hides, as `torchvision.models.googlenet`."""
    return importlib.import_module(f"{package.__name__}.models.{name}")


# torchvision ----------------------------------------------------------------------------------------------------------


def _resnet(block: str, **options: int) -> Entry:
    return Entry(lambda tv: _resnet_of(tv, block, options), _image(32))


def _resnet_of(tv: Any, block: str, options: Mapping[str, int]) -> nn.Module:
    resnet = tv.models.resnet
    return resnet.ResNet(getattr(resnet, block), [2, 2, 1, 1], num_classes=5, **options)


def _vgg(tv: Any) -> nn.Module:
    features = tv.models.vgg.make_layers([8, "M", 16, "M", 512], batch_norm=True)
    with torch.device("meta"):  # The classifier it makes has a hundred million weights, whatever the features.
        model = tv.models.VGG(nn.Identity(), init_weights=False)
    model.features = features
    for layer, fan_in, fan_out in ((0, 512 * 49, 16), (3, 16, 12), (6, 12, 5)):
        model.classifier[layer] = nn.Linear(fan_in, fan_out)
    return model


def _narrowed(block: Callable[..., nn.Module], by: int) -> Callable[..., nn.Module]:
    """A convolution with all numbers of channels, but for that of the image's, divided."""
    return lambda fan_in, fan_out, **kw: block(fan_in if fan_in == 3 else fan_in // by, fan_out // by, **kw)


def _googlenet(tv: Any) -> nn.Module:
    module = _submodule(tv, "googlenet")
    narrow = _narrowed(module.BasicConv2d, 8)
    blocks = [narrow, *(partial(block, conv_block=narrow) for block in (module.Inception, module.InceptionAux))]
    model = module.GoogLeNet(5, aux_logits=True, init_weights=False, blocks=blocks)
    for aux in (model.aux1, model.aux2):
        aux.fc1, aux.fc2 = nn.Linear(256, 16), nn.Linear(16, 5)
    model.fc = nn.Linear(128, 5)
    return model


def _inception(tv: Any) -> nn.Module:
    module = _submodule(tv, "inception")
    narrow = _narrowed(module.BasicConv2d, 16)
    kinds = (getattr(module, f"Inception{kind}") for kind in ("A", "B", "C", "D", "E", "Aux"))
    blocks = [narrow, *(partial(kind, conv_block=narrow) for kind in kinds)]
    model = module.Inception3(5, aux_logits=True, init_weights=False, inception_blocks=blocks)
    model.fc, model.AuxLogits.fc = nn.Linear(128, 5), nn.Linear(48, 5)
    return model


def _mobilenet_v3(tv: Any) -> nn.Module:
    row = tv.models.mobilenetv3.InvertedResidualConfig
    rows = [
        row(8, 3, 8, 8, True, "RE", 2, 1, 1), row(8, 3, 24, 16, False, "HS", 2, 1, 1),
        row(16, 5, 32, 16, True, "HS", 1, 1, 1),
    ]  # fmt: skip
    return tv.models.MobileNetV3(rows, 32, 5)


def _efficientnet(tv: Any, *, fused: bool) -> nn.Module:
    m = tv.models.efficientnet
    rows = [
        (m.FusedMBConvConfig if fused else m.MBConvConfig)(1, 3, 1, 8, 8, 1),
        (m.FusedMBConvConfig if fused else m.MBConvConfig)(4, 3, 2, 8, 16, 2),
        m.MBConvConfig(4, 5, 2, 16, 24, 2),
    ]
    return m.EfficientNet(rows, dropout=0.1, num_classes=5, last_channel=40)


def _regnet(tv: Any) -> nn.Module:
    params = tv.models.regnet.BlockParams.from_init_params(
        depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    return tv.models.RegNet(params, 5, 8)


def _swin(tv: Any, **options: Any) -> nn.Module:
    return tv.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5, **options)


def _swin_v2(tv: Any) -> nn.Module:
    module = tv.models.swin_transformer
    return _swin(tv, block=module.SwinTransformerBlockV2, downsample_layer=module.PatchMergingV2)


def _deeplab(tv: Any) -> nn.Module:
    body = tv.models.MobileNetV2(width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]]).features
    body = tv.models._utils.IntermediateLayerGetter(body, {"2": "aux", "3": "out"})
    heads = tv.models.segmentation
    return heads.DeepLabV3(body, heads.deeplabv3.DeepLabHead(8, 5, (2, 4)), heads.fcn.FCNHead(8, 5))


_MOBILE = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 64, 2, 2]]
_TORCHVISION = {
    "resnet_basic": _resnet("BasicBlock"),
    "resnet_bottleneck": _resnet("Bottleneck", width_per_group=16),
    "resnext": _resnet("Bottleneck", groups=8, width_per_group=8),
    "vgg": Entry(_vgg, _image(32)),
    "densenet": Entry(lambda tv: tv.models.DenseNet(4, (2, 3), 8, 2, num_classes=5), _image(32)),
    "mobilenet_v2": Entry(lambda tv: tv.models.MobileNetV2(5, 0.25, _MOBILE), _image(32)),
    "mobilenet_v3": Entry(_mobilenet_v3, _image(32)),
    "efficientnet": Entry(partial(_efficientnet, fused=False), _image(32)),
    "efficientnet_v2": Entry(partial(_efficientnet, fused=True), _image(32)),
    "shufflenet": Entry(lambda tv: tv.models.ShuffleNetV2([2, 3, 2], [8, 16, 24, 32, 48], 5), _image(64)),
    "regnet": Entry(_regnet, _image(32)),
    "convnext": Entry(
        lambda tv: tv.models.ConvNeXt(
            [tv.models.convnext.CNBlockConfig(8, 16, 2), tv.models.convnext.CNBlockConfig(16, None, 2)], num_classes=5
        ),
        _image(32),
    ),
    "squeezenet": Entry(lambda tv: tv.models.SqueezeNet("1_1", 5), _image(32)),
    "mnasnet": Entry(lambda tv: tv.models.MNASNet(0.25, 5), _image(32)),
    "googlenet": Entry(_googlenet, _image(32)),
    "inception": Entry(_inception, _image(299)),  # smaller ones vanish in the auxiliary head
    "swin": Entry(_swin, _image(32)),
    "swin_v2": Entry(_swin_v2, _image(32)),
    "vit": Entry(lambda tv: tv.models.VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=5), _image(32)),
    "maxvit": Entry(lambda tv: tv.models.MaxVit((32, 32), 8, 4, [8, 16], [2, 1], 4, 0.0, num_classes=5), _image(32)),
    "deeplabv3": Entry(_deeplab, _image(32)),
}


# timm -----------------------------------------------------------------------------------------------------------------


def _timm(model: str, size: int = 32, **options: Any) -> Entry:
    return Entry(lambda timm: timm.create_model(model, pretrained=False, num_classes=5, **options), _image(size))


def _mixer(block: str, mlp_ratio: Any, **others: str) -> Entry:
    def make(timm: Any) -> nn.Module:
        module = timm.models.mlp_mixer
        layers = {name: getattr(module, kind) for name, kind in others.items()}
        options = {"mlp_ratio": mlp_ratio, "block_layer": getattr(module, block), **layers}
        return module.MlpMixer(5, 32, patch_size=8, num_blocks=2, embed_dim=32, **options)

    return Entry(make, _image(32))


def _poolformer(timm: Any) -> nn.Module:
    m = timm.models.metaformer
    options = {"mlp_act": nn.GELU, "mlp_bias": True, "use_mlp_head": False, "res_scale_init_values": None}
    return m.MetaFormer(
        num_classes=5, depths=(2, 1), dims=(8, 16), token_mixers=m.Pooling, norm_layers=m.GroupNorm1,
        downsample_norm=None, layer_scale_init_values=1e-5, **options,
    )  # fmt: skip


def _nf_resnet(timm: Any) -> nn.Module:
    cfg = replace(timm.models.nfnet.model_cfgs["nf_resnet50"], depths=(2, 1), channels=(16, 32), stem_chs=8)
    return timm.models.nfnet.NormFreeNet(cfg, num_classes=5)


def _hrnet(timm: Any) -> nn.Module:
    cfg = copy.deepcopy(timm.models.hrnet.cfg_cls["hrnet_w18_small"])
    for stage in (cfg[key] for key in cfg if key.startswith("stage")):
        stage["num_blocks"] = (1,) * len(stage["num_blocks"])
        stage["num_channels"] = tuple(4 * 2**branch for branch in range(len(stage["num_channels"])))
    return timm.models.hrnet.HighResolutionNet(cfg, num_classes=5, stem_width=8)


def _repvgg(timm: Any) -> nn.Module:
    m = timm.models.byobnet
    stages = tuple(m.ByoBlockCfg(type="rep", d=2, s=2, c=width, gs=0) for width in (8, 12))
    return m.ByobNet(replace(m.model_cfgs["repvgg_a0"], stem_chs=8, blocks=stages), num_classes=5)


_TIMM = {
    "mixer": _mixer("MixerBlock", (0.5, 4.0)),
    "resmlp": _mixer("ResBlock", 4, norm_layer="Affine"),
    "gmlp": _mixer("SpatialGatingBlock", 4, mlp_layer="GatedMlp"),
    "convmixer": Entry(lambda timm: timm.models.convmixer.ConvMixer(16, 2, 5, 4, num_classes=5), _image(32)),
    "poolformer": Entry(_poolformer, _image(32)),
    "nf_resnet": Entry(_nf_resnet, _image(32)),
    "res2net": _timm("res2net50_26w_4s", layers=(2, 2, 1, 1), channels=(8, 16, 24, 32), base_width=8),
    "ghostnet": _timm("ghostnet_050"),
    "hrnet": Entry(_hrnet, _image(64)),
    "repvgg": Entry(_repvgg, _image(32)),
    "convnextv2": _timm("convnextv2_atto", depths=(1, 2, 1, 1), dims=(8, 16, 16, 24)),
    "beit": _timm("beit_base_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4),
    "eva02": _timm("eva02_tiny_patch14_224", 28, img_size=28, embed_dim=32, depth=2, num_heads=2),
    "cait": _timm("cait_xxs24_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4),
    "levit": _timm(
        "levit_128s", 64, img_size=64, embed_dim=(16, 24, 32), key_dim=8, num_heads=(2, 3, 4), depth=(1, 1, 1)
    ),
    "xcit": _timm("xcit_nano_12_p16_224", img_size=32, embed_dim=32, depth=2, num_heads=4),
    "mobilevit": _timm("mobilevit_xxs", 64),
    "efficientformer": _timm("efficientformer_l1", 224, depths=(1, 1, 1, 2), embed_dims=(8, 16, 24, 32)),
    "sequencer": _timm(
        "sequencer2d_s", img_size=32, layers=(1, 1, 1, 1), embed_dims=(16, 24, 24, 24), hidden_sizes=(4, 6, 6, 6)
    ),
    "tiny_vit": _timm(
        "tiny_vit_5m_224", 64, embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(2, 2, 3, 4),
        window_sizes=(4, 4, 4, 2),
    ),
    "mambaout": _timm("mambaout_femto", depths=(1, 1), dims=(8, 16)),
}  # fmt: skip
