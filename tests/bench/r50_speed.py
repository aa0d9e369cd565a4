"""rcrnet-r50 against the published implementation in PyTorch eager, ONNX Runtime and OpenVINO: same weights, input and threads, one run.

Every contender is a process of its own that answers "go" with the milliseconds of one window; rounds alternate between them, the median
of each counts. Logits are compared with PyTorch's. Everyone computes in float32.

usage: python tests/bench/r50_speed.py --salient BUILD/tests/bench/bench_run [--px 448] [--frames 4] [--threads 2] [--rounds 5]
Prints one line of JSON. Needs torch, onnx, onnxruntime, openvino (tests/bench/requirements.txt).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


# ---- contenders: python r50_speed.py --worker NAME FOLDER THREADS ----


def worker_torch(folder, threads):
    import torch
    from rcrnet_torch import RCRNetNER
    torch.set_num_threads(threads)
    net = RCRNetNER().eval()
    net.load_state_dict(torch.load(folder / "weights.pth"))
    return lambda x: net(torch.from_numpy(x)).numpy(), torch.inference_mode()


def worker_onnxruntime(folder, threads):
    import contextlib

    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    s = ort.InferenceSession(str(folder / "net.onnx"), o, providers=["CPUExecutionProvider"])
    return lambda x: s.run(None, {"clip": x})[0], contextlib.nullcontext()


def worker_openvino(folder, threads):
    import contextlib

    import openvino as ov
    core = ov.Core()
    how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    net = core.compile_model(core.read_model(folder / "net.onnx"), "CPU", how)
    return lambda x: net([x])[0], contextlib.nullcontext()


WORKERS = {"torch": worker_torch, "onnxruntime": worker_onnxruntime, "openvino": worker_openvino}


def work(name, folder, threads):
    import numpy
    x = numpy.load(folder / "clip.npy")
    run, context = WORKERS[name](folder, threads)
    with context:
        run(x)
        print("ready", flush=True)
        for _ in sys.stdin:
            t, c = time.perf_counter(), time.process_time()
            y = run(x)
            print((time.perf_counter() - t) * 1e3, (time.process_time() - c) * 1e3, flush=True)
    numpy.save(folder / f"{name}.npy", y)


# ---- the race ----


def prepare(folder, px, frames):
    import numpy
    import torch
    sys.path.insert(0, str(HERE.parent / "golden"))
    from checkpoint import save_safetensors
    from rcrnet_torch import made_up
    net = made_up(px=px)
    torch.save(net.state_dict(), folder / "weights.pth")
    tensors = {k: v.numpy() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_safetensors(tensors, folder / "model.safetensors", {"arch": "rcrnet-r50"})
    clip = torch.randn(frames, 3, px, px)
    numpy.save(folder / "clip.npy", clip.numpy())
    torch.onnx.export(net, (clip,), str(folder / "net.onnx"), input_names=["clip"], output_names=["logits"],
                      opset_version=17, dynamo=False)


def start(name, folder, a):
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    if name == "salient":
        cmd = [a.salient, folder / "model.safetensors", folder / "clip.npy", folder / "salient.npy", str(a.threads)]
    else:
        cmd = [sys.executable, __file__, "--worker", name, str(folder), "--threads", str(a.threads)]
    p = subprocess.Popen([str(c) for c in cmd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    if p.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    return p


def peak_mb(p):
    for line in open(f"/proc/{p.pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def race(folder, a):
    import numpy
    names = ["salient", *(n for n in WORKERS if n not in a.without.split(","))]
    procs = {n: start(n, folder, a) for n in names}
    took = {n: [] for n in names}
    for _ in range(a.rounds):
        for n, p in procs.items():
            print("go", file=p.stdin, flush=True)
            took[n].append([float(v) / a.frames for v in p.stdout.readline().split()])
    peak = {n: peak_mb(p) for n, p in procs.items()}
    for p in procs.values():
        p.stdin.close()
        p.wait()
    wall = {n: statistics.median(t[0] for t in v) for n, v in took.items()}
    cpu = {n: statistics.median(t[1] for t in v) for n, v in took.items()}
    ref = numpy.load(folder / "torch.npy")
    return {"px": a.px, "frames": a.frames, "threads": a.threads, "rounds": a.rounds,
            "wall_ms_per_frame": {n: round(v, 1) for n, v in wall.items()},
            "cpu_ms_per_frame": {n: round(v, 1) for n, v in cpu.items()},
            "peak_mb": peak,
            "ratio": {n: round(wall[n] / wall["salient"], 2) for n in names if n != "salient"},
            "cpu_ratio": {n: round(cpu[n] / cpu["salient"], 2) for n in names if n != "salient"},
            "logits_std": round(float(ref.std()), 3),
            "max_difference": {n: float(numpy.abs(numpy.load(folder / f"{n}.npy") - ref).max()) for n in names if n != "torch"}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--worker", nargs=2)
    p.add_argument("--salient")
    p.add_argument("--without", default="", help="contenders to leave out, by name")
    for name, value in (("px", 448), ("frames", 4), ("threads", 2), ("rounds", 5)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--keep", help="folder for weights and input, made when missing, kept for the next run")
    a = p.parse_args()
    sys.path.insert(0, str(HERE))
    if a.worker:
        return work(a.worker[0], pathlib.Path(a.worker[1]), a.threads)
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(a.keep or temp)
        folder.mkdir(exist_ok=True)
        if not (folder / "net.onnx").exists():
            # in a process of its own: this one only waits, and should hold no thread pool
            subprocess.run([sys.executable, "-c", f"import sys, pathlib; sys.path.insert(0, {str(HERE)!r}); import r50_speed; "
                            f"r50_speed.prepare(pathlib.Path({str(folder)!r}), {a.px}, {a.frames})"], check=True, stdout=sys.stderr)
        print(json.dumps(race(folder, a)))


if __name__ == "__main__":
    main()
