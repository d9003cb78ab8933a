"""Networks for the parameters of filters and effects, as Flax modules in Linen's `init` and `apply`."""

from jaxapf.nets.biasnet import BiasNet
from jaxapf.nets.encoder import CurveReader, Encoder, StyleController, StyleEncoder, log_mel, mel_filterbank
from jaxapf.nets.proxy import ProxyCNN, ProxyTCN
from jaxapf.nets.tcn import TCN, receptive_field

__all__ = [
    "TCN",
    "BiasNet",
    "CurveReader",
    "Encoder",
    "ProxyCNN",
    "ProxyTCN",
    "StyleController",
    "StyleEncoder",
    "log_mel",
    "mel_filterbank",
    "receptive_field",
]
