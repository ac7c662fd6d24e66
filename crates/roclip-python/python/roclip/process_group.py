"""Process groups of PyTorch's own, for what the program cannot reach without Python: NCCL, between GPUs."""

# What tensors of the CPU and of GPUs are exchanged by, for a process that computes on the one or the other. Where nothing is named, the program
# joins the others itself, over Gloo.
BACKENDS = {"cpu": None, "cuda": "cpu:gloo,cuda:nccl"}


def join(gpu, rendezvous):
    """The name of the group that this process has joined, or None where none is needed. `gpu` is a number, or None for the CPU."""
    backend = BACKENDS["cpu" if gpu is None else "cuda"]
    if backend is None:
        return None
    import datetime

    import torch
    from torch import distributed

    if "nccl" in backend and not distributed.is_nccl_available():
        return None
    host, port, rank, size, serve, prefix, seconds = rendezvous
    timeout = datetime.timedelta(seconds=seconds)
    store = distributed.TCPStore(host, port, size, serve, timeout, multi_tenant=serve)
    device = None
    if gpu is not None:
        torch.cuda.set_device(gpu)
        device = torch.device("cuda", gpu)
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore(prefix, store),
        rank=rank,
        world_size=size,
        timeout=timeout,
        device_id=device,
    )
    return distributed.group.WORLD.group_name
