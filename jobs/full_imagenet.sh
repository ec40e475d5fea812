#!/usr/bin/env bash
# Submit the whole of ImageNet to a running Ray and follow it: RAY_ADDRESS says where, or Ray's default.
#   jobs/full_imagenet.sh --data 's3://me/imagenet/train-*.tar' --eval-data 's3://me/imagenet/val-*.tar' --out s3://me/run
set -euo pipefail
cd "$(dirname "$0")/.."
python -m jobs.guard "$@"
exec ray job submit --working-dir . -- python -m rayscan.full_imagenet --fleet.address auto "$@"
