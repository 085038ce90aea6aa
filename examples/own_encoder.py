"""An encoder of one's own: how strong the edges of an image are, in which direction, and where.

A study takes an encoder as a TorchScript file: a program that PyTorch runs without Python, so that a study can be opened long
after the code that made it has gone. docs/pretrained.md says what such a network is shown.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Edges(nn.Module):
    """Four directions of edges, averaged over 4 x 4 parts of the image: photographs (batch, 3, y, x) -> vectors (batch, 64)."""

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        slanted = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
        self.register_buffer("kernels", torch.stack([across, across.T, slanted, slanted.flip(1)])[:, None])

    def forward(self, images: Tensor) -> Tensor:
        edges = functional.conv2d(images.mean(dim=1, keepdim=True), self.kernels, padding=1).abs()
        return functional.adaptive_avg_pool2d(edges, 4).flatten(1)


def write(path: Path) -> None:
    """Write the encoder into one file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the format, which PyTorch still reads
        torch.jit.trace(Edges().eval(), torch.zeros(2, 3, 64, 64)).save(path)


def main() -> None:
    """Ask for six slices of drawn patients that look different to this encoder."""
    import tempfile

    from nextmask import Study, StudyConfig
    from nextmask.data.synthetic import CLASSES, write_patients

    with tempfile.TemporaryDirectory() as folder:
        write_patients(Path(folder) / "patients", 6, seed=0, shape=(6, 48, 48), phases=1)
        write(Path(folder) / "edges.ts")
        study = Study.create(
            Path(folder) / "study",
            StudyConfig(
                images="../patients/cases.csv",
                classes=CLASSES,
                unit="slice",
                encoder="pretrained",
                pretraining={"network": "../edges.ts", "size": 64},
            ),
        )
        print(*study.query(6, "typiclust").samples, sep="\n")


if __name__ == "__main__":
    main()
