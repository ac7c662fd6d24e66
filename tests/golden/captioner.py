"""Writes captioner.safetensors: soft attention, the LSTM step and beam search of Show, Attend and Tell (in the form of sgrvinod's tutorial), and
a causal decoder behind prefix tokens, in plain PyTorch modules.

    pip install torch==2.11.0 safetensors && python3 captioner.py
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
BATCH, PLACES, CHANNELS, WIDTH, ATTENTION, VOCABULARY = 4, 16, 12, 16, 8, 14
START, END, NEVER, MOST, FEWEST, BEAM = 12, 13, [0, 12], 6, 1, 3


class ShowAttendTell(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.attention_place = nn.Linear(CHANNELS, ATTENTION)
        self.attention_hidden = nn.Linear(WIDTH, ATTENTION)
        self.attention_score = nn.Linear(ATTENTION, 1)
        self.gate = nn.Linear(WIDTH, CHANNELS)
        self.first_hidden = nn.Linear(CHANNELS, WIDTH)
        self.first_cell = nn.Linear(CHANNELS, WIDTH)
        self.lstm = nn.LSTMCell(WIDTH + CHANNELS, WIDTH)
        self.output = nn.Linear(WIDTH, VOCABULARY)
        with torch.no_grad():  # Sharp enough that beams differ from greedy search.
            self.output.weight.mul_(6)
            self.embedding.weight.mul_(2)

    def begin(self, seen):
        mean = seen.mean(dim=1)
        return self.first_hidden(mean), self.first_cell(mean)

    def step(self, seen, hidden, cell, token):
        score = self.attention_score(torch.relu(self.attention_place(seen) + self.attention_hidden(hidden).unsqueeze(1)))
        weights = torch.softmax(score.squeeze(2), dim=1)
        context = (seen * weights.unsqueeze(2)).sum(dim=1) * torch.sigmoid(self.gate(hidden))
        hidden, cell = self.lstm(torch.cat([self.embedding(token), context], dim=1), (hidden, cell))
        return self.output(hidden), hidden, cell, weights


def beam_search(model, seen, beam):
    """Of one picture: the best caption, its sum of log-probabilities, and the attention of each of its tokens."""
    hidden, cell = model.begin(seen)
    alive = [([], 0.0, hidden, cell, [])]
    finished = []
    for position in range(MOST + 1):
        candidates = []
        for ids, score, hidden, cell, maps in alive:
            token = torch.tensor([ids[-1] if ids else START])
            logits, new_hidden, new_cell, weights = model.step(seen, hidden, cell, token)
            scores = F.log_softmax(logits, dim=1)[0]
            for id in range(VOCABULARY):
                early = id == END and position < FEWEST
                if id in NEVER or early or (position == MOST and id != END):
                    continue
                candidates.append((score + scores[id].item(), ids, id, new_hidden, new_cell, maps, weights[0]))
        candidates.sort(key=lambda c: -c[0])
        alive, room = [], beam - len(finished)
        for score, ids, id, hidden, cell, maps, weights in candidates[:room]:
            if id == END:
                finished.append((score, ids, maps))
            else:
                alive.append((ids + [id], score, hidden, cell, maps + [weights]))
        if not alive:
            break
    return max(finished, key=lambda one: one[0])


model = ShowAttendTell().eval()
out = {}
with torch.no_grad():
    seen = torch.randn(BATCH, PLACES, CHANNELS) * 2
    tokens = torch.tensor([[START, 3, 5, 7, END], [START, 1, 2, END, 0], [START, 11, 4, 4, END], [START, 9, END, 0, 0]])
    hidden, cell = model.begin(seen)
    logits, maps = [], []
    for at in range(tokens.shape[1] - 1):
        step, hidden, cell, weights = model.step(seen, hidden, cell, tokens[:, at])
        logits.append(step)
        maps.append(weights)
    out |= {"seen": seen, "tokens": tokens, "logits": torch.stack(logits, 1), "attention": torch.stack(maps, 1)}
    for beam in (1, BEAM):
        found = [beam_search(model, seen[row : row + 1], beam) for row in range(BATCH)]
        ids = torch.full((BATCH, MOST), -1)
        for row, (_, caption, maps) in enumerate(found):
            ids[row, : len(caption)] = torch.tensor(caption, dtype=ids.dtype)
        out[f"beam{beam}.ids"] = ids
        out[f"beam{beam}.scores"] = torch.tensor([score for score, _, _ in found])
        out[f"beam{beam}.last_map"] = torch.stack([maps[-1] for _, _, maps in found])
    names = {"lstm.weight_ih": "lstm.weight_ih", "lstm.weight_hh": "lstm.weight_hh"}
    out |= {f"recurrent.captioner.{names.get(name, name)}": tensor.clone() for name, tensor in model.state_dict().items()}

    # The bridge: two prefix tokens before the caption, then pre-norm blocks under a causal mask; the embedding is the output's matrix.
    prefix, heads, layers, context, features = 2, 2, 2, 8, 10
    project = nn.Sequential(nn.Linear(features, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, prefix * WIDTH))
    embedding, position = torch.randn(VOCABULARY, WIDTH) * 0.3, torch.randn(prefix + context, WIDTH) * 0.1
    blocks = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, heads, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True), layers
    ).eval()
    norm = nn.LayerNorm(WIDTH)
    pooled = torch.randn(BATCH, features)
    words = embedding[tokens[:, :-1]]
    x = torch.cat([project(pooled).view(BATCH, prefix, WIDTH), words], dim=1)
    x = x + position[: x.shape[1]]
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
    for block in blocks.layers:
        x = block(x, src_mask=mask)
    out["bridge.pooled"] = pooled
    out["bridge.logits"] = norm(x[:, prefix:]) @ embedding.T
    causal = {"token_embedding.weight": embedding, "positional_embedding": position}
    causal |= {f"projector.{at}.{part}": getattr(project[2 * at], part) for at in (0, 1) for part in ("weight", "bias")}
    causal |= {f"ln_final.{part}": getattr(norm, part) for part in ("weight", "bias")}
    ours = {
        "self_attn.in_proj_weight": "attn.in_proj_weight", "self_attn.in_proj_bias": "attn.in_proj_bias",
        "self_attn.out_proj.weight": "attn.out_proj.weight", "self_attn.out_proj.bias": "attn.out_proj.bias",
        "linear1.weight": "mlp.c_fc.weight", "linear1.bias": "mlp.c_fc.bias",
        "linear2.weight": "mlp.c_proj.weight", "linear2.bias": "mlp.c_proj.bias",
        "norm1.weight": "ln_1.weight", "norm1.bias": "ln_1.bias", "norm2.weight": "ln_2.weight", "norm2.bias": "ln_2.bias",
    }
    for number, block in enumerate(blocks.layers):
        for theirs, name in ours.items():
            causal[f"transformer.resblocks.{number}.{name}"] = block.state_dict()[theirs]
    out |= {f"causal.captioner.{name}": tensor.detach().clone() for name, tensor in causal.items()}
save_file({name: tensor.contiguous() for name, tensor in out.items()}, "captioner.safetensors")
print({name: tuple(out[name].tolist()) if "ids" in name else None for name in out if "ids" in name})
