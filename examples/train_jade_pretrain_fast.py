"""Pre-trains Jade: `python train_jade_pretrain_fast.py --feature-dir STORE --stride 52 --epochs 50`."""

import argparse

from moola.training import pretrain

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--feature-dir", required=True)
parser.add_argument("--stride", type=int, default=52)
parser.add_argument("--epochs", type=int, default=50)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=17)
parser.add_argument("--model", default="jade")
parser.add_argument("--output")
options = vars(parser.parse_args())

result = pretrain(options.pop("feature_dir"), options.pop("output"), **options)
print(result.verdict)
print(f"weights: {result.run / 'best.safetensors'}")
