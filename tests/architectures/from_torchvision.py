"""Architectures of torchvision, narrow and shallow."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType

import torch
from torch import nn

from architectures.entry import Entry, image


def _resnet(block: str, **options: int) -> Entry:
    return Entry(lambda tv: _resnet_of(tv, block, options), image(32))


def _resnet_of(tv: ModuleType, block: str, options: Mapping[str, int]) -> nn.Module:
    resnet = tv.models.resnet
    return resnet.ResNet(getattr(resnet, block), [2, 2, 1, 1], num_classes=5, **options)


def _vgg(tv: ModuleType) -> nn.Module:
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


def _googlenet(tv: ModuleType) -> nn.Module:
    # A function of the same name hides the module.
    module = importlib.import_module(f"{tv.__name__}.models.googlenet")
    narrow = _narrowed(module.BasicConv2d, 8)
    blocks = [narrow, *(partial(block, conv_block=narrow) for block in (module.Inception, module.InceptionAux))]
    model = module.GoogLeNet(5, aux_logits=True, init_weights=False, blocks=blocks)
    for aux in (model.aux1, model.aux2):
        aux.fc1, aux.fc2 = nn.Linear(256, 16), nn.Linear(16, 5)
    model.fc = nn.Linear(128, 5)
    return model


def _inception(tv: ModuleType) -> nn.Module:
    module = tv.models.inception
    narrow = _narrowed(module.BasicConv2d, 16)
    kinds = (getattr(module, f"Inception{kind}") for kind in ("A", "B", "C", "D", "E", "Aux"))
    blocks = [narrow, *(partial(kind, conv_block=narrow) for kind in kinds)]
    model = module.Inception3(5, aux_logits=True, init_weights=False, inception_blocks=blocks)
    model.fc, model.AuxLogits.fc = nn.Linear(128, 5), nn.Linear(48, 5)
    return model


def _mobilenet_v3(tv: ModuleType) -> nn.Module:
    row = tv.models.mobilenetv3.InvertedResidualConfig
    rows = [
        row(8, 3, 8, 8, True, "RE", 2, 1, 1), row(8, 3, 24, 16, False, "HS", 2, 1, 1),
        row(16, 5, 32, 16, True, "HS", 1, 1, 1),
    ]  # fmt: skip
    return tv.models.MobileNetV3(rows, 32, 5)


def _efficientnet(tv: ModuleType, *, fused: bool) -> nn.Module:
    m = tv.models.efficientnet
    rows = [
        (m.FusedMBConvConfig if fused else m.MBConvConfig)(1, 3, 1, 8, 8, 1),
        (m.FusedMBConvConfig if fused else m.MBConvConfig)(4, 3, 2, 8, 16, 2),
        m.MBConvConfig(4, 5, 2, 16, 24, 2),
    ]
    return m.EfficientNet(rows, dropout=0.1, num_classes=5, last_channel=40)


def _regnet(tv: ModuleType) -> nn.Module:
    params = tv.models.regnet.BlockParams.from_init_params(
        depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    return tv.models.RegNet(params, 5, 8)


def _swin(tv: ModuleType, **options: object) -> nn.Module:
    return tv.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5, **options)


def _swin_v2(tv: ModuleType) -> nn.Module:
    module = tv.models.swin_transformer
    return _swin(tv, block=module.SwinTransformerBlockV2, downsample_layer=module.PatchMergingV2)


def _deeplab(tv: ModuleType) -> nn.Module:
    body = tv.models.MobileNetV2(width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]]).features
    body = tv.models._utils.IntermediateLayerGetter(body, {"2": "aux", "3": "out"})
    heads = tv.models.segmentation
    return heads.DeepLabV3(body, heads.deeplabv3.DeepLabHead(8, 5, (2, 4)), heads.fcn.FCNHead(8, 5))


_MOBILE = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 64, 2, 2]]
TABLE = {
    "resnet_basic": _resnet("BasicBlock"),
    "resnet_bottleneck": _resnet("Bottleneck", width_per_group=16),
    "resnext": _resnet("Bottleneck", groups=8, width_per_group=8),
    "vgg": Entry(_vgg, image(32)),
    "densenet": Entry(lambda tv: tv.models.DenseNet(4, (2, 3), 8, 2, num_classes=5), image(32)),
    "mobilenet_v2": Entry(lambda tv: tv.models.MobileNetV2(5, 0.25, _MOBILE), image(32)),
    "mobilenet_v3": Entry(_mobilenet_v3, image(32)),
    "efficientnet": Entry(partial(_efficientnet, fused=False), image(32)),
    "efficientnet_v2": Entry(partial(_efficientnet, fused=True), image(32)),
    "shufflenet": Entry(lambda tv: tv.models.ShuffleNetV2([2, 3, 2], [8, 16, 24, 32, 48], 5), image(64)),
    "regnet": Entry(_regnet, image(32)),
    "convnext": Entry(
        lambda tv: tv.models.ConvNeXt(
            [tv.models.convnext.CNBlockConfig(8, 16, 2), tv.models.convnext.CNBlockConfig(16, None, 2)], num_classes=5
        ),
        image(32),
    ),
    "squeezenet": Entry(lambda tv: tv.models.SqueezeNet("1_1", 5), image(32)),
    "mnasnet": Entry(lambda tv: tv.models.MNASNet(0.25, 5), image(32)),
    "googlenet": Entry(_googlenet, image(32)),
    "inception": Entry(_inception, image(299)),  # smaller ones vanish in the auxiliary head
    "swin": Entry(_swin, image(32)),
    "swin_v2": Entry(_swin_v2, image(32)),
    "vit": Entry(lambda tv: tv.models.VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=5), image(32)),
    "maxvit": Entry(lambda tv: tv.models.MaxVit((32, 32), 8, 4, [8, 16], [2, 1], 4, 0.0, num_classes=5), image(32)),
    "deeplabv3": Entry(_deeplab, image(32)),
}
