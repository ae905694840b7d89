"""The peer of `train_lm.py`: the GPT of the nanoGPT README's CPU example, in plain torch modules.

4 layers, 4 heads, d_model 128, context 64, batch 12, 2,000 steps of AdamW at 1e-3 (betas 0.9 and 0.99, weight decay 0.1
on matrices, 100 steps of warm-up, cosine to 1e-4, gradients clipped to norm 1), no dropout, no biases, tied embedding,
learned positions. Random windows. Run as a script it trains once and prints one line of JSON with the loss over the whole
validation text in windows of 64.

    python benchmarks/peer_gpt.py ../shared/data/tinyshakespeare/input.txt --seed 1
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS = 4, 4, 128, 64, 12, 2000


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(z.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocab_size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.token.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                writes = name.endswith(("proj.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if writes else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    @torch.inference_mode()
    def generate(self, ids: Tensor, new: int) -> Tensor:
        """Sample `new` tokens one by one, recomputing the last CONTEXT of them each time. ids: 1 T."""
        for _ in range(new):
            probabilities = self(ids[:, -CONTEXT:])[:, -1].softmax(-1)
            ids = torch.cat((ids, torch.multinomial(probabilities, 1)), dim=1)
        return ids


def read(path: str) -> tuple[Tensor, Tensor, int]:
    """Character ids of the first 90 % and of the rest, and how many characters there are."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    alphabet = {character: index for index, character in enumerate(sorted(set(text)))}
    ids = torch.from_numpy(np.array([alphabet[character] for character in text]))
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(alphabet)


def optimiser(model: GPT) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))


def rate(step: int) -> float:
    if step < 100:
        return 1e-3 * (step + 1) / 101
    return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100))) * 9e-4


def train_step(model: nn.Module, adamw: torch.optim.AdamW, train: Tensor) -> None:
    starts = torch.randint(len(train) - CONTEXT, (BATCH,))
    windows = train[starts[:, None] + torch.arange(CONTEXT + 1)]
    logits = model(windows[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adamw.step()
    adamw.zero_grad(set_to_none=True)


@torch.inference_mode()
def evaluate(model: GPT, ids: Tensor) -> float:
    """Mean loss in nats over all of `ids` in windows of CONTEXT, the last one shorter."""
    total = 0.0
    for start in range(0, len(ids) - 1, CONTEXT * 64):
        for window in ids[start : start + CONTEXT * 64 + 1].unfold(0, CONTEXT + 1, CONTEXT).split(64):
            total += F.cross_entropy(
                model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten(), reduction="sum"
            ).item()
    rest = (len(ids) - 1) % CONTEXT
    if rest:
        tail = ids[-rest - 1 :][None]
        total += F.cross_entropy(model(tail[:, :-1]).flatten(0, 1), tail[:, 1:].flatten(), reduction="sum").item()
    return total / (len(ids) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--slice", action="store_true", help="validate on the end of the training text, for tuning")
    options = parser.parse_args()
    began = time.perf_counter()
    torch.manual_seed(options.seed)
    train, validation, vocab_size = read(options.text)
    if options.slice:
        cut = int(0.9 * len(train))
        train, validation = train[:cut], train[cut:]
    model = GPT(vocab_size)
    adamw = optimiser(model)
    for step in range(options.steps):
        for group in adamw.param_groups:
            group["lr"] = rate(step)
        train_step(model, adamw, train)
    trained = time.perf_counter()
    model.eval()
    print(json.dumps({"loss": evaluate(model, validation), "train_s": trained - began, "steps": options.steps}))


if __name__ == "__main__":
    main()
