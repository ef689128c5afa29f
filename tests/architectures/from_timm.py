"""Architectures of timm, narrow and shallow."""

import copy
from dataclasses import replace
from types import ModuleType

from torch import nn

from architectures.entry import Entry, image


def _timm(model: str, size: int = 32, **options: object) -> Entry:
    return Entry(lambda timm: timm.create_model(model, pretrained=False, num_classes=5, **options), image(size))


def _mixer(block: str, mlp_ratio: float | tuple[float, float], **others: str) -> Entry:
    def make(timm: ModuleType) -> nn.Module:
        module = timm.models.mlp_mixer
        layers = {name: getattr(module, kind) for name, kind in others.items()}
        options = {"mlp_ratio": mlp_ratio, "block_layer": getattr(module, block), **layers}
        return module.MlpMixer(5, 32, patch_size=8, num_blocks=2, embed_dim=32, **options)

    return Entry(make, image(32))


def _poolformer(timm: ModuleType) -> nn.Module:
    m = timm.models.metaformer
    options = {"mlp_act": nn.GELU, "mlp_bias": True, "use_mlp_head": False, "res_scale_init_values": None}
    return m.MetaFormer(
        num_classes=5, depths=(2, 1), dims=(8, 16), token_mixers=m.Pooling, norm_layers=m.GroupNorm1,
        downsample_norm=None, layer_scale_init_values=1e-5, **options,
    )  # fmt: skip


def _nf_resnet(timm: ModuleType) -> nn.Module:
    cfg = replace(timm.models.nfnet.model_cfgs["nf_resnet50"], depths=(2, 1), channels=(16, 32), stem_chs=8)
    return timm.models.nfnet.NormFreeNet(cfg, num_classes=5)


def _hrnet(timm: ModuleType) -> nn.Module:
    cfg = copy.deepcopy(timm.models.hrnet.cfg_cls["hrnet_w18_small"])
    for stage in (cfg[key] for key in cfg if key.startswith("stage")):
        stage["num_blocks"] = (1,) * len(stage["num_blocks"])
        stage["num_channels"] = tuple(4 * 2**branch for branch in range(len(stage["num_channels"])))
    return timm.models.hrnet.HighResolutionNet(cfg, num_classes=5, stem_width=8)


def _repvgg(timm: ModuleType) -> nn.Module:
    m = timm.models.byobnet
    stages = tuple(m.ByoBlockCfg(type="rep", d=2, s=2, c=width, gs=0) for width in (8, 12))
    return m.ByobNet(replace(m.model_cfgs["repvgg_a0"], stem_chs=8, blocks=stages), num_classes=5)


TABLE = {
    "mixer": _mixer("MixerBlock", (0.5, 4.0)),
    "resmlp": _mixer("ResBlock", 4, norm_layer="Affine"),
    "gmlp": _mixer("SpatialGatingBlock", 4, mlp_layer="GatedMlp"),
    "convmixer": Entry(lambda timm: timm.models.convmixer.ConvMixer(16, 2, 5, 4, num_classes=5), image(32)),
    "poolformer": Entry(_poolformer, image(32)),
    "nf_resnet": Entry(_nf_resnet, image(32)),
    "res2net": _timm("res2net50_26w_4s", layers=(2, 2, 1, 1), channels=(8, 16, 24, 32), base_width=8),
    "ghostnet": _timm("ghostnet_050"),
    "hrnet": Entry(_hrnet, image(64)),
    "repvgg": Entry(_repvgg, image(32)),
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
