#!/usr/bin/env bash
# Submit a search for good settings, which reads no label, and follow it; the same command again goes on.
#   jobs/search.sh cifar10 --data 's3://me/cifar10/train-*.tar' --out s3://me/search --trials 60 \
#       --space scan.entropy_weight=1:20:log scan.num_neighbors=5,10,20,50 selflabel.threshold=0.8:0.999
set -euo pipefail
cd "$(dirname "$0")/.."
python -m jobs.guard "$@"
exec ray job submit --working-dir . -- python -m rayscan search "$@" --fleet.address auto
