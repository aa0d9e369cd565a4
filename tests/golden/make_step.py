#!/usr/bin/env python3
"""Reference values of one training step: make_step.py GOLDEN writes step.npz beside itself.

An independent PyTorch implementation of the published networks (rcrnet-spec.md), functional over the checkpoint's names, in float64.
It first reproduces the reference logits, then differentiates binary cross-entropy. Needs torch; the test that reads step.npz does not.
"""
import pathlib
import sys

import numpy
import torch
import torch.nn.functional as F

import checkpoint
import step_cases

HERE = pathlib.Path(__file__).resolve().parent


class Net:
    def __init__(self, tensors):
        self.p = {n: torch.tensor(a, dtype=torch.float64) for n, a in tensors.items()
                  if not n.endswith("num_batches_tracked") and ".fc." not in n}
        for name, t in self.p.items():
            t.requires_grad_(not name.endswith(("running_mean", "running_var")))

    def conv(self, x, name, **how):
        return F.conv2d(x, self.p[name + ".weight"], self.p.get(name + ".bias"), **how)

    def norm(self, x, name):
        mean, var, w, b = (self.p[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / torch.sqrt(var + 1e-5) * w + b

    def conv_bn_relu(self, x, name, **how):
        return torch.relu(self.norm(self.conv(x, name + ".conv", **how), name + ".bn"))

    def bottleneck(self, x, name, stride=1, dilation=1):
        y = torch.relu(self.norm(self.conv(x, name + ".conv1"), name + ".bn1"))
        y = self.conv(y, name + ".conv2", stride=stride, padding=dilation, dilation=dilation)
        y = torch.relu(self.norm(y, name + ".bn2"))
        y = self.norm(self.conv(y, name + ".conv3"), name + ".bn3")
        if name + ".downsample.0.weight" in self.p:
            x = self.norm(self.conv(x, name + ".downsample.0", stride=stride), name + ".downsample.1")
        return torch.relu(x + y)

    def resnet(self, x):
        r = "backbone.resnet."
        x = torch.relu(self.norm(self.conv(x, r + "conv1", stride=2, padding=3), r + "bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
        levels = []
        for layer, (blocks, stride, dilation) in enumerate([(3, 1, 1), (4, 2, 1), (6, 2, 1), (3, 1, 2)], 1):
            for i in range(blocks):
                x = self.bottleneck(x, f"{r}layer{layer}.{i}", 1 if i else stride, dilation)
            levels.append(x)
        return levels

    def aspp(self, x):
        a = "backbone.aspp."
        pool = self.conv_bn_relu(x.mean((2, 3), keepdim=True), a + "imagepool.conv")
        parts = [pool.expand(-1, -1, *x.shape[2:]), self.conv_bn_relu(x, a + "stages.c0")]
        parts += [self.conv_bn_relu(x, f"{a}stages.c{i}", padding=d, dilation=d) for i, d in ((1, 6), (2, 12), (3, 18))]
        return self.conv_bn_relu(torch.cat(parts, 1), a + "fire.conv", padding=1)

    def decode(self, x, levels, size):
        def resize(y, like):
            return F.interpolate(y, size=like, mode="bilinear", align_corners=False)
        for i, skip in ((1, levels[2]), (2, levels[1]), (3, levels[0])):
            name = f"backbone.refinement{i}"
            x = torch.cat([resize(x, skip.shape[2:]), self.bottleneck(skip, name + ".skip")], 1)
            x = self.conv_bn_relu(x, name + ".refine", padding=1)
        x = self.conv_bn_relu(resize(x, size), "backbone.decoder.conv1", padding=1)
        return self.conv(x, "backbone.decoder.conv2")

    def non_local(self, x, name):  # (T,C,h,w)
        t, c, h, w = x.shape

        def point(v, part):
            k = self.p[f"{name}.{part}.weight"].flatten(1)
            return k @ v + self.p[f"{name}.{part}.bias"][:, None]
        v = x.transpose(0, 1).reshape(c, -1)
        f = point(v, "theta").T @ point(v, "phi") / v.shape[1]
        y = point((f @ point(v, "g").T).T, "W") + v
        return y.reshape(c, t, h, w).transpose(0, 1)

    def gru(self, x, h, name):
        def gate(which, a, b):
            return self.conv(torch.cat([a, b], 1), f"{name}.{which}_gate", padding=1)
        r, z = torch.sigmoid(gate("reset", x, h)), torch.sigmoid(gate("update", x, h))
        n = torch.tanh(gate("output", x, r * h))
        return (1 - z) * n + z * h

    def ner(self, x):
        x = self.non_local(x, "non_local_block")
        h, forth = x[:1], []
        for t in range(len(x)):
            h = self.gru(x[t:t + 1], h, "convgru_forward")
            forth.append(h)
        back = []
        for t in reversed(range(len(x))):
            h = self.gru(forth[t], h, "convgru_backward")
            back.insert(0, h)
        x = torch.tanh(self.conv(torch.cat([torch.cat(forth), torch.cat(back)], 1), "bidirection_conv", padding=1))
        return self.non_local(x, "non_local_block2")

    def forward(self, x, video):
        levels = self.resnet(x)
        y = self.aspp(levels[3])
        return self.decode(self.ner(y) if video else y, levels, x.shape[2:])


def main():
    golden, out = pathlib.Path(sys.argv[1]), {}
    for case in step_cases.CASES:
        x, target, logits = step_cases.load(golden, case)
        net = Net(checkpoint.reference(golden, case.weights))
        y = net.forward(torch.tensor(step_cases.normalised(x), dtype=torch.float64), case.video)
        print(case.name, "logits differ by", numpy.abs(y.detach().numpy() - logits).max(), file=sys.stderr)
        loss = F.binary_cross_entropy_with_logits(y[:, 0], torch.tensor(target, dtype=torch.float64))
        loss.backward()
        out[case.name + "/loss"] = numpy.array(loss.item())
        for name, p in net.p.items():
            if p.grad is not None:
                out[f"{case.name}/{name}"] = step_cases.digest(p.grad.numpy())
    numpy.savez_compressed(HERE / "step.npz", **out)


if __name__ == "__main__":
    main()
