"""What lightly and stable-pretraining make of arrays; runs in an environment of their own (peers.txt), without kzoo.

    PEERS/bin/python benchmarks/peers_losses.py DRAWS.npz ANSWERS.json             # each loss of each draw
    PEERS/bin/python benchmarks/peers_losses.py DRAWS.npz ANSWERS.json --replicas  # the first draw on 1 and 2 processes

On two processes each has half of the examples, and what a user of DistributedDataParallel has: the mean of the losses,
and for the weights the mean of the gradients. The weights are a matrix that all inputs with a gradient go through.
"""

import json
import sys
import tempfile
from importlib.metadata import version

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightly import loss as lightly
from stable_pretraining import losses as stable
from stable_pretraining.methods.lejepa import EppsPulley

SHARED = ("queue", "directions")  # arrays that are not cut among processes
DETACHED = ("target_0", "target_1", "taught", "images", "hidden", *SHARED)  # and those without a gradient
PROCESSES = 2


def both_ways(loss):
    return lambda a: loss(a["p_0"], a["target_1"]) + loss(a["p_1"], a["target_0"])


def pair(loss):
    return lambda a: loss(a["z_0"], a["z_1"])


def lightly_queue(a):
    loss = lightly.NTXentLoss(temperature=0.2, memory_bank_size=a["queue"].shape)
    loss.memory_bank.bank = a["queue"].clone()
    return loss(a["z_0"], a["z_1"].detach())


def lightly_swav(gather):
    loss = lightly.SwaVLoss(sinkhorn_gather_distributed=gather)

    def of(a):
        views = list(a["scores"].unbind(1))
        return loss(views[:2], views[2:])[0]

    return of


def lightly_lejepa(gather):
    def of(a):
        loss = lightly.lejepa_loss.LeJEPALoss(gather_distributed=gather, sigreg_num_vectors=a["directions"].shape[0])
        loss.sigreg._generate_unit_vectors = lambda *_: a["directions"].T  # which it would draw
        views = a["views"].transpose(0, 1)
        return loss(global_proj=views[:2], local_proj=views[2:])

    return of


def stable_lejepa(a):
    views = a["views"].transpose(0, 1)
    regular = torch.stack([EppsPulley().double()(view @ a["directions"].T).mean() for view in views]).mean()
    return 0.05 * regular + 0.95 * lightly.lejepa_loss.lejepa_invariance_loss(all_proj=views, global_proj=views[:2])


def lightly_dino(a):
    return lightly.DINOLoss(a["said"].shape[-1])(list(a["taught"].unbind(1)), list(a["said"].unbind(1)))


def stable_dino(a):
    loss = stable.DINOv1Loss()
    return loss(a["said"].transpose(0, 1), loss.softmax_center_teacher(a["taught"].transpose(0, 1).float(), 0.04))


def lightly_ibot(a):
    hidden = a["hidden"].bool()
    mask = hidden.reshape(len(hidden), 4, -1)
    return lightly.IBOTPatchLoss(a["said"].shape[-1])(a["taught"][hidden], a["said"][hidden], mask)


def stable_ibot(a):
    hidden = a["hidden"].bool()
    return stable.iBOTPatchLoss()(a["said"][hidden], torch.softmax(a["taught"][hidden] / 0.04, dim=-1))


def stable_swav(a):
    prototypes = torch.nn.Linear(a["scores"].shape[-1], a["scores"].shape[-1], bias=False, dtype=a["scores"].dtype)
    torch.nn.init.eye_(prototypes.weight)
    return stable.SwAVLoss()(a["scores"][:, 0], a["scores"][:, 1], prototypes)


def stable_mae(normalise):
    return lambda a: stable.mae(a["images"], a["predicted"], a["hidden"], norm_pix_loss=normalise)


GATHER = ", gather_distributed=True"

# loss: {who, with what options: what it makes of the arrays}
LOSSES = {
    "NT-Xent": {
        "lightly NTXentLoss": pair(lightly.NTXentLoss(0.5)),
        "lightly NTXentLoss" + GATHER: pair(lightly.NTXentLoss(0.5, gather_distributed=True)),
        "stable-pretraining NTXEntLoss": pair(stable.NTXEntLoss(0.5)),
    },
    "NT-Xent, decoupled": {
        "lightly DCLLoss": pair(lightly.DCLLoss(0.5)),
        "lightly DCLLoss" + GATHER: pair(lightly.DCLLoss(0.5, gather_distributed=True)),
    },
    "InfoNCE with a queue": {"lightly NTXentLoss, memory_bank_size": lightly_queue},
    "Barlow Twins": {
        "lightly BarlowTwinsLoss": pair(lightly.BarlowTwinsLoss(0.0051)),
        "lightly BarlowTwinsLoss" + GATHER: pair(lightly.BarlowTwinsLoss(0.0051, gather_distributed=True)),
        "stable-pretraining BarlowTwinsLoss": pair(stable.BarlowTwinsLoss(0.0051)),
    },
    "VICReg": {
        "lightly VICRegLoss": pair(lightly.VICRegLoss()),
        "lightly VICRegLoss" + GATHER: pair(lightly.VICRegLoss(gather_distributed=True)),
        "stable-pretraining VICRegLoss": pair(stable.VICRegLoss()),
    },
    "LeJEPA": {
        "lightly LeJEPALoss": lightly_lejepa(False),
        "lightly LeJEPALoss" + GATHER: lightly_lejepa(True),
        "stable-pretraining EppsPulley": stable_lejepa,
    },
    "SimSiam": {
        "lightly NegativeCosineSimilarity": lambda a: both_ways(lightly.NegativeCosineSimilarity())(a) / 2,
        "stable-pretraining NegativeCosineSimilarity": lambda a: both_ways(stable.NegativeCosineSimilarity())(a) / 2,
    },
    "BYOL": {
        "lightly NegativeCosineSimilarity": lambda a: 4 + 2 * both_ways(lightly.NegativeCosineSimilarity())(a),
        "stable-pretraining BYOLLoss": both_ways(stable.BYOLLoss()),
    },
    "DINO": {"lightly DINOLoss": lightly_dino, "stable-pretraining DINOv1Loss": stable_dino},
    "iBOT, patches": {"lightly IBOTPatchLoss": lightly_ibot, "stable-pretraining iBOTPatchLoss": stable_ibot},
    "KoLeo": {"lightly KoLeoLoss": lambda a: lightly.KoLeoLoss()(a["z_0"])},
    "SwAV, multi-crop": {
        "lightly SwaVLoss": lightly_swav(False),
        "lightly SwaVLoss, sinkhorn_gather_distributed=True": lightly_swav(True),
    },
    "SwAV, two views": {"stable-pretraining SwAVLoss": stable_swav},
    "MAE, pixels": {"stable-pretraining mae": stable_mae(False)},
    "MAE, normalised patches": {"stable-pretraining mae, norm_pix_loss=True": stable_mae(True)},
    "EMP-SSL": {"lightly EMPSSLLoss": lambda a: lightly.EMPSSLLoss()(list(a["codes"].unbind(1)))},
}


def torched(arrays, rows=slice(None)):
    """Float64 tensors of a part of the examples."""
    return {k: torch.from_numpy(v if k in SHARED else v[rows]).double() for k, v in arrays.items()}


def with_gradient(loss, arrays, rows=slice(None)):
    """A loss, and its gradient for the matrix that its inputs go through; at first the identity."""
    tensors = torched(arrays, rows)
    moving = [name for name in tensors if name not in DETACHED]
    weights = torch.eye(tensors[moving[0]].shape[-1], dtype=torch.float64).requires_grad_()
    value = loss({name: each @ weights if name in moving else each for name, each in tensors.items()})
    (gradient,) = torch.autograd.grad(value, weights)
    return value.detach(), gradient


def on_one(rank, draws, store, answers):
    """One of the processes: the mean over them of each loss and each gradient, left by the first."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    found = {}
    for name, peers in LOSSES.items():
        size = len(next(v for k, v in draws[name].items() if k not in SHARED)) // PROCESSES
        for peer, loss in peers.items():
            parts = with_gradient(loss, draws[name], slice(rank * size, (rank + 1) * size))
            for part in parts:
                dist.all_reduce(part)
            found[name, peer] = [part.div(PROCESSES).numpy() for part in parts]
    if rank == 0:
        torch.save(found, answers)
    dist.destroy_process_group()


def relative(one, other):
    """The largest difference, of the largest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def replicas(draws):
    """{loss: {peer: relative error of the loss and of the gradient on two processes}}."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(on_one, (draws, f"{folder}/store", f"{folder}/answers"), nprocs=PROCESSES)
        found = torch.load(f"{folder}/answers", weights_only=False)
    answers = {}
    for name, peers in LOSSES.items():
        for peer, loss in peers.items():
            joint = [part.numpy() for part in with_gradient(loss, draws[name])]
            errors = [relative(*each) for each in zip(found[name, peer], joint, strict=True)]
            answers.setdefault(name, {})[peer] = dict(zip(("loss", "gradient"), errors, strict=True))
    return answers


def main(source, target, *options):
    torch.set_num_threads(1)
    draws = {}  # loss: its draws, each a dict of arrays
    with np.load(source) as arrays:
        for key in arrays.files:
            name, number, array = key.split("|")
            draws.setdefault(name, {}).setdefault(int(number), {})[array] = arrays[key]
    if options:
        answers = replicas({name: each[0] for name, each in draws.items()})
    else:
        answers = {
            name: {
                peer: [float(loss(torched(each[n])).detach()) for n in sorted(each)]
                for peer, loss in LOSSES[name].items()
            }
            for name, each in draws.items()
        }
    versions = {name: version(name) for name in ("lightly", "stable-pretraining", "torch")}
    with open(target, "w") as file:
        json.dump({"versions": versions, "losses": answers}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
