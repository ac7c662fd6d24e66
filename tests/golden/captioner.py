"""Writes captioner.safetensors: soft attention, the LSTM step and beam search of Show, Attend and Tell (in the form of sgrvinod's tutorial), and
a causal decoder behind prefix tokens and with cross-attention, alone and under beam search, in plain PyTorch modules.

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


def beam_search(step, state, beam, most=MOST):
    """Of one picture: the best caption, its sum of log-probabilities, and the attention of each of its tokens. `step` takes a state and the tokens
    so far, and gives the next one's scores, the next state and the attention."""
    alive = [([], 0.0, state, [])]
    finished = []
    for position in range(most + 1):
        candidates = []
        for ids, score, state, maps in alive:
            logits, new_state, weights = step(state, [START] + ids)
            scores = F.log_softmax(logits, dim=0)
            for id in range(VOCABULARY):
                early = id == END and position < FEWEST
                if id in NEVER or early or (position == most and id != END):
                    continue
                candidates.append((score + scores[id].item(), ids, id, new_state, maps, weights))
        candidates.sort(key=lambda c: -c[0])
        alive, room = [], beam - len(finished)
        for score, ids, id, state, maps, weights in candidates[:room]:
            if id == END:
                finished.append((score, ids, maps))
            else:
                alive.append((ids + [id], score, state, maps + [weights]))
        if not alive:
            break
    return max(finished, key=lambda one: one[0])


def searched(name, step, state_of, beams=(1, BEAM), most=MOST):
    """What the searches find for each picture, as tensors."""
    tensors = {}
    for beam in beams:
        found = [beam_search(step, state_of(row), beam, most) for row in range(BATCH)]
        ids = torch.full((BATCH, MOST), -1)
        for row, (_, caption, maps) in enumerate(found):
            ids[row, : len(caption)] = torch.tensor(caption, dtype=ids.dtype)
        tensors[f"{name}beam{beam}.ids"] = ids
        tensors[f"{name}beam{beam}.scores"] = torch.tensor([score for score, _, _ in found])
        if found[0][2][0] is not None:
            tensors[f"{name}beam{beam}.last_map"] = torch.stack([maps[-1] for _, _, maps in found])
    return tensors


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

    def recurrent(state, ids):
        seen, hidden, cell = state
        logits, hidden, cell, weights = model.step(seen, hidden, cell, torch.tensor(ids[-1:]))
        return logits[0], (seen, hidden, cell), weights[0]

    out |= searched("", recurrent, lambda row: (seen[row : row + 1], *model.begin(seen[row : row + 1])))
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

    def behind_prefix(pooled, tokens):
        x = torch.cat([project(pooled).view(len(pooled), prefix, WIDTH), embedding[tokens]], dim=1)
        x = x + position[: x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for block in blocks.layers:
            x = block(x, src_mask=mask)
        return norm(x[:, prefix:]) @ embedding.T

    out["bridge.pooled"] = pooled
    out["bridge.logits"] = behind_prefix(pooled, tokens[:, :-1])
    causal = {"token_embedding.weight": embedding, "positional_embedding": position}
    causal |= {f"projector.{at}.{part}": getattr(project[2 * at], part) for at in (0, 1) for part in ("weight", "bias")}
    causal |= {f"ln_final.{part}": getattr(norm, part) for part in ("weight", "bias")}
    # Each word from the whole text before it, so that nothing is kept between the steps.
    out |= searched("bridge.", lambda row, ids: (behind_prefix(row, torch.tensor([ids]))[0, -1], row, None), lambda row: pooled[row : row + 1])
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

    # The same blocks, words and norm without a prefix, and before each block a look at the places, through a gate: what the default bridge of
    # instruction tuning does, from whose last map a filter takes its entropy.
    looks = [nn.MultiheadAttention(WIDTH, heads, kdim=CHANNELS, vdim=CHANNELS, batch_first=True).eval() for _ in range(layers)]
    norms = [nn.LayerNorm(WIDTH) for _ in range(layers)]
    gates = [torch.tensor([0.8]), torch.tensor([-0.6])]
    for parameter in [p for module in looks + norms for p in module.parameters()]:
        parameter.add_(torch.randn_like(parameter) * 0.3)

    def with_places(seen, tokens):
        x = embedding[tokens] + position[: tokens.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for block, look, before, gate in zip(blocks.layers, looks, norms, gates):
            looked, weights = look(before(x), seen, seen, need_weights=True, average_attn_weights=True)
            x = block(x + torch.tanh(gate) * looked, src_mask=mask)
        return norm(x) @ embedding.T, weights

    out["cross.logits"], out["cross.attention"] = with_places(seen, tokens[:, :-1])

    def look_at(prompt):
        def step(row, ids):
            logits, weights = with_places(row, torch.tensor([prompt + ids]))
            return logits[0, -1], row, weights[0, -1]

        return step

    def one(row):
        return seen[row : row + 1]

    out |= searched("cross.", look_at([]), one)
    # An answer behind a question, as instructions are asked.
    out["cross.prompt"] = torch.tensor([START, 4, 9])
    out |= searched("cross.asked.", look_at([START, 4, 9]), one, beams=(BEAM,), most=MOST - 2)
    cross = {name: tensor for name, tensor in causal.items() if not name.startswith(("projector", "positional"))}
    cross["positional_embedding"] = position[:context]
    for number, (look, before, gate) in enumerate(zip(looks, norms, gates)):
        parts = dict(zip(("query", "key", "value"), zip((look.q_proj_weight, look.k_proj_weight, look.v_proj_weight), look.in_proj_bias.chunk(3))))
        parts |= {"output": (look.out_proj.weight, look.out_proj.bias), "ln": (before.weight, before.bias)}
        for name, (weight, bias) in parts.items():
            cross[f"cross.{number}.{name}.weight"], cross[f"cross.{number}.{name}.bias"] = weight, bias
        cross[f"cross.{number}.gate"] = gate
    # The blocks are those of `causal`.
    shared = ("transformer.", "token_embedding", "ln_final")
    out |= {f"cross.captioner.{name}": tensor.detach().clone() for name, tensor in cross.items() if not name.startswith(shared)}
save_file({name: tensor.contiguous() for name, tensor in out.items()}, "captioner.safetensors")
print({name: tuple(out[name].tolist()) if "ids" in name else None for name in out if "ids" in name})
