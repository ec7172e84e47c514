"""Slot-Attention's networks, at the sizes of the authors' released code, and started much as theirs are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

KERNEL = 5
EPSILON = 1e-8  # added to the attention before it is normalised over places
NORM_EPSILON = 1e-3  # of their layer normalisations


def start_as_the_authors(module: nn.Module) -> None:
    """Weights from Glorot's uniform distribution, biases zero.

    PyTorch counts the fans of μ, log σ and the GRU's three gates one by one; Keras, with which the authors worked,
    takes a vector's first side as 1 and the gates as one matrix. So μ and log σ start within ±0.22 here and ±0.30
    there, the GRU's input weights within ±0.22 here and ±0.15 there, and its recurrent ones are √3 times as large here.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def norm(channels: int) -> nn.LayerNorm:
    """A layer normalisation over the channels of one place or slot."""
    return nn.LayerNorm(channels, eps=NORM_EPSILON)


def perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Two linear layers with a ReLU between them."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, out))


class PositionEmbedding(nn.Module):
    """Adds to the features of each place a linear function of where it is: x, y, 1 - x and 1 - y in [0, 1]."""

    grid: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        line = torch.linspace(0, 1, size)
        x, y = line.expand(size, size), line[:, None].expand(size, size)
        self.register_buffer("grid", torch.stack([x, y, 1 - x, 1 - y], dim=-1), persistent=False)
        self.embed = nn.Linear(4, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, s, s) -> the same."""
        return features + self.embed(self.grid).permute(2, 0, 1)


class Encoder(nn.Module):
    """Convolutions, positions, and a perceptron at each place."""

    def __init__(self, size: int, width: int, features: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            layers += [nn.Conv2d(width if i else 3, width, KERNEL, stride, KERNEL // 2), nn.ReLU()]
        self.maps = nn.Sequential(*layers)
        self.position = PositionEmbedding(size // math.prod(strides), width)
        self.norm = norm(width)
        self.mlp = perceptron(width, width, features)
        start_as_the_authors(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> one vector a place, (B, places, features)."""
        maps = self.position(self.maps(images))
        return self.mlp(self.norm(maps.flatten(2).transpose(1, 2)))


class SlotAttentionModule(nn.Module):
    """Slots from features, by rounds of attention in which the slots compete (the paper's Algorithm 1)."""

    def __init__(self, size: int, hidden: int, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.mu = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, size)))
        self.log_sigma = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, size)))
        self.norm_inputs, self.norm_slots, self.norm_mlp = norm(size), norm(size), norm(size)
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.gru = nn.GRUCell(size, size)
        self.mlp = perceptron(size, hidden, size)
        start_as_the_authors(self)
        for name, weight in self.gru.named_parameters():
            if "bias" in name:
                nn.init.zeros_(weight)
            else:  # one block a gate
                start = nn.init.xavier_uniform_ if name == "weight_ih" else nn.init.orthogonal_
                for gate in weight.data.chunk(3):
                    start(gate)

    def forward(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """(B, places, size) and standard normal noise (B, K, size) -> slots (B, K, size)."""
        inputs = self.norm_inputs(inputs)
        keys, values = self.key(inputs), self.value(inputs)
        slots = self.mu + self.log_sigma.exp() * noise
        for _ in range(self.iterations):
            weights = attention(self.query(self.norm_slots(slots)), keys)
            gathered = weights / weights.sum(dim=2, keepdim=True) @ values
            slots = self.gru(gathered.flatten(0, 1), slots.flatten(0, 1)).unflatten(0, slots.shape[:2])
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """How much of each place each slot wins: (B, K, size), (B, places, size) -> (B, K, places), summing to 1 over K.

    EPSILON is added, so that a slot that wins nothing can still be normalised.
    """
    logits = queries * queries.shape[-1] ** -0.5 @ keys.transpose(1, 2)
    return logits.softmax(dim=1) + EPSILON


class Decoder(nn.Module):
    """A slot on every place of a small map, with its position, through transposed convolutions (spatial broadcast)."""

    def __init__(self, size: int, slot_size: int, width: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.start = size // math.prod(strides)
        self.position = PositionEmbedding(self.start, slot_size)
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            channels = width if i else slot_size
            layers += [
                nn.ConvTranspose2d(channels, width, KERNEL, stride, KERNEL // 2, output_padding=stride - 1),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 4, 3, padding=1))
        start_as_the_authors(self)

    def forward(self, slots: Tensor) -> Tensor:
        """(B, K, slot_size) -> (B, K, 4, S, S): red, green, blue, and the mask's logit."""
        maps = slots.flatten(0, 1)[:, :, None, None].expand(-1, -1, self.start, self.start)
        painted = self.layers(self.position(maps).contiguous(memory_format=torch.channels_last))
        return painted.unflatten(0, slots.shape[:2])
