"""Every benchmark in one table: `make bench`. `make bench-check` also compares the ratios with tests/bench/ratios.json and fails when one
is more than 10% worse.

A ratio divides what was measured in the same run on the same machine, so it carries over between machines; milliseconds do not.

usage: python tests/bench/bench.py [--only r50,lite,eval,service] [--check] [--write] [--json FILE]
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RATIOS = HERE / "ratios.json"
TOLERANCE = 0.10


def run(*cmd, **env):
    done = subprocess.run([str(c) for c in cmd], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **env})
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, cmd))}: exit {done.returncode}")
    return done.stdout


def r50(tools):
    """Against the published implementation in PyTorch eager, ONNX Runtime and OpenVINO."""
    d = json.loads(run(sys.executable, HERE / "r50_speed.py", "--salient", tools / "bench_run").splitlines()[-1])
    what = f"rcrnet-r50, {d['px']} x {d['px']}, T={d['frames']}, {d['threads']} threads"
    rows = []
    for n in d["wall_ms_per_frame"]:
        text = f"{d['wall_ms_per_frame'][n]} ms/frame, {d['cpu_ms_per_frame'][n]} CPU ms, {d['peak_mb'][n]} MB"
        if n != "torch":
            text += f", largest difference from PyTorch {d['max_difference'][n]:.1e}"
        rows.append((f"{what}: {n}", text, None))
    ratios = {f"r50 CPU time, {n} / salient": v for n, v in d["cpu_ratio"].items()}
    rows += [(f"{what}: {n}", f"{v} (wall {d['ratio'][n.split(', ')[1].split(' ')[0]]})", v) for n, v in ratios.items()]
    if not d["max_difference"]["salient"] < 1e-3:
        sys.exit(f"bench: logits differ by {d['max_difference']['salient']}")
    return rows, ratios


def lite(tools):
    """The default detector by stage, one thread, with its arithmetic floor."""
    out = run(tools / "bench_net", "rcrnet-lite", "288", "1", OMP_WAIT_POLICY="passive")
    rows, ratios = [], {}
    for line in out.splitlines()[1:]:
        m = re.match(r"(.+?)\s+([\d.]+) GMAC\s+floor\s+([\d.]+)\s+wall best\s+([\d.]+) median\s+([\d.]+).*cpu best\s+([\d.]+)", line)
        name, gmac, floor, cpu = m[1], float(m[2]), float(m[3]), float(m[6])
        rows.append((f"rcrnet-lite, 288 px, 1 thread: {name}", f"{cpu} CPU ms/frame, {gmac} GMAC, floor {floor} ms", None))
        if name == "plan":
            ratios["lite network, floor / CPU time"] = round(floor / cpu, 3)
    return rows, ratios


def evaluate(tools):
    """/eval's engine against PySODMetrics and davis2017-evaluation."""
    d = json.loads(run(sys.executable, HERE / "eval_speed.py", "--frames", "400", "--rounds", "3").splitlines()[-1])
    text = f"{d['salient_cpu_ms']} CPU ms/frame, reference {d['reference_cpu_ms']}; {d['salient_peak_mb']} MB"
    return [("eval, 854 x 480", text, None)], {"eval CPU time a core, reference / salient": d["cpu_ratio"]}


def service(tools):
    """From POST to the last map, memory, submission under streams and pollers."""
    rows = []
    for line in run(sys.executable, HERE / "service.py").splitlines():
        if line.startswith("{"):
            d = json.loads(line)
            rows.append(("service", ", ".join(f"{k} {v}" for k, v in d.items()), None))
    return rows, {}


PARTS = {"r50": r50, "lite": lite, "eval": evaluate, "service": service}


def table(rows):
    wide = max(len(r[0]) for r in rows)
    for name, text, _ in rows:
        print(f"| {name:<{wide}} | {text} |")


def worse(ratios):
    """Names of committed ratios that have dropped by more than the tolerance."""
    want = json.loads(RATIOS.read_text())
    bad = [f"{n}: {ratios[n]}, was {want[n]}" for n in ratios if n in want and ratios[n] < want[n] * (1 - TOLERANCE)]
    missing = [n for n in ratios if n not in want]
    return bad, missing


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--tools", default=str(ROOT / "build/release/tests/bench"), help="folder of bench_run and bench_net")
    p.add_argument("--check", action="store_true", help="fail when a ratio is more than 10%% below the committed one")
    p.add_argument("--write", action="store_true", help="commit these ratios to ratios.json")
    p.add_argument("--json", help="also write the ratios here")
    a = p.parse_args()
    rows, ratios = [], {}
    for name in a.only.split(","):
        r, q = PARTS[name](pathlib.Path(a.tools))
        rows += r
        ratios |= q
    table(rows)
    print(json.dumps(ratios))
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(ratios, indent=1) + "\n")
    if a.write:
        old = json.loads(RATIOS.read_text()) if RATIOS.exists() else {}
        RATIOS.write_text(json.dumps(old | ratios, indent=1, sort_keys=True) + "\n")
    if a.check:
        bad, missing = worse(ratios)
        for n in missing:
            print(f"bench-check: no committed ratio for {n}", file=sys.stderr)
        for b in bad:
            print(f"bench-check: worse by more than {TOLERANCE:.0%}: {b}", file=sys.stderr)
        sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
