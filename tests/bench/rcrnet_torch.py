"""RCRNet + NER (Yan et al., ICCV 2019) in PyTorch, op by op as the published implementation runs it, under its parameter names.

What the benchmarks compare salient's rcrnet-r50 with. Nothing is fused or rewritten here, on purpose: three gate convolutions a GRU step, the
affinity of the non-local block as one (N,N) matrix, the decoder at full resolution.
"""
import torch
import torch.nn.functional as F
from torch import nn


class ConvBNReLU(nn.Module):
    def __init__(self, c_in, c_out, k, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, padding=k // 2 * dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c_in, mid, c_out, stride=1, dilation=1, shortcut=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, mid, 1, bias=False), nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = nn.Conv2d(mid, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)) if shortcut else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    """ResNet-50, output stride 16: layer4 dilates by 2."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        c_in = 64
        for i, (blocks, mid, stride, dilation) in enumerate([(3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 1), (3, 512, 1, 2)]):
            layer = []
            for b in range(blocks):
                layer.append(Bottleneck(c_in, mid, 4 * mid, 1 if b else stride, dilation, b == 0))
                c_in = 4 * mid
            setattr(self, f"layer{i + 1}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        s4 = self.layer1(x)
        s8 = self.layer2(s4)
        s16 = self.layer3(s8)
        return s4, s8, s16, self.layer4(s16)


class ASPP(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleDict({f"c{i}": ConvBNReLU(2048, 256, 3 if d else 1, d or 1) for i, d in enumerate((0, 6, 12, 18))})
        self.imagepool = nn.Module()
        self.imagepool.conv = ConvBNReLU(2048, 256, 1)
        self.fire = nn.Module()
        self.fire.conv = ConvBNReLU(1280, 256, 3)

    def forward(self, x):
        pool = self.imagepool.conv(x.mean((2, 3), keepdim=True)).expand(-1, -1, x.shape[2], x.shape[3])
        return self.fire.conv(torch.cat([pool] + [stage(x) for stage in self.stages.values()], 1))


class Refinement(nn.Module):
    def __init__(self, skip_in, up_in):
        super().__init__()
        self.skip = Bottleneck(skip_in, 48, 96, shortcut=True)
        self.refine = ConvBNReLU(up_in + 96, 128, 3)

    def forward(self, up, skip):
        up = F.interpolate(up, skip.shape[2:], mode="bilinear", align_corners=False)
        return self.refine(torch.cat([up, self.skip(skip)], 1))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet, self.aspp = ResNet(), ASPP()
        self.refinement1, self.refinement2, self.refinement3 = Refinement(1024, 256), Refinement(512, 128), Refinement(256, 128)
        self.decoder = nn.Module()
        self.decoder.conv1, self.decoder.conv2 = ConvBNReLU(128, 256, 3), nn.Conv2d(256, 1, 1)

    def encode(self, x):
        s4, s8, s16, top = self.resnet(x)
        return (s4, s8, s16), self.aspp(top)

    def decode(self, context, skips, size):
        s4, s8, s16 = skips
        x = self.refinement3(self.refinement2(self.refinement1(context, s16), s8), s4)
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return self.decoder.conv2(self.decoder.conv1(x))


class NonLocal(nn.Module):
    def __init__(self, c=256):
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv3d(c, c // 2, 1) for _ in range(3))
        self.W = nn.Conv3d(c // 2, c, 1)

    def forward(self, x):  # (1,C,T,h,w)
        g, theta, phi = (f(x).flatten(2) for f in (self.g, self.theta, self.phi))
        f = theta.transpose(1, 2) @ phi
        y = (f / f.shape[-1]) @ g.transpose(1, 2)
        return self.W(y.transpose(1, 2).reshape(1, -1, *x.shape[2:])) + x


class ConvGRUCell(nn.Module):
    def __init__(self, c=256):
        super().__init__()
        self.reset_gate, self.update_gate, self.output_gate = (nn.Conv2d(2 * c, c, 3, padding=1) for _ in range(3))

    def forward(self, x, h):
        xh = torch.cat([x, h], 1)
        r, z = torch.sigmoid(self.reset_gate(xh)), torch.sigmoid(self.update_gate(xh))
        n = torch.tanh(self.output_gate(torch.cat([x, r * h], 1)))
        return (1 - z) * n + z * h


class RCRNetNER(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.convgru_forward, self.convgru_backward = ConvGRUCell(), ConvGRUCell()
        self.bidirection_conv = nn.Conv2d(512, 256, 3, padding=1)
        self.non_local_block, self.non_local_block2 = NonLocal(), NonLocal()

    def forward(self, clip):  # (T,3,H,W) -> (T,1,H,W)
        frames = [self.backbone.encode(f) for f in clip.split(1)]
        x = self.non_local_block(torch.stack([c for _, c in frames], 2))
        forward, h = [], x[:, :, 0]
        for t in range(x.shape[2]):
            h = self.convgru_forward(x[:, :, t], h)
            forward.append(h)
        both, h = [], forward[-1]
        for f in reversed(forward):
            h = self.convgru_backward(f, h)
            both.insert(0, torch.tanh(self.bidirection_conv(torch.cat([f, h], 1))))
        x = self.non_local_block2(torch.stack(both, 2))
        size = clip.shape[2:]
        return torch.cat([self.backbone.decode(x[:, :, t], frames[t][0], size) for t in range(x.shape[2])])


def made_up(seed=1, px=448):
    """Random weights whose activations stay of order one: batch norms take the statistics of a random clip."""
    torch.manual_seed(seed)
    net = RCRNetNER()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
            nn.init.uniform_(m.weight, 0.5, 1.0)
            nn.init.uniform_(m.bias, -0.3, 0.3)
        elif isinstance(m, nn.Conv2d):
            nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
    net.train()
    net.backbone.aspp.imagepool.conv.eval()  # sees one value a frame: no statistics to take
    with torch.no_grad():
        net(torch.randn(2, 3, px // 2, px // 2))
    return net.eval()
