#!/usr/bin/env bash
# Is this Ray fit for work? Handwritten digits, from pixels to a report, a few steps of everything: minutes.
#   jobs/smoke.sh --out s3://me/smoke
set -euo pipefail
cd "$(dirname "$0")/.."
few=(--pretext.epochs 2 --scan.inputs both --scan.head-epochs 5 --scan.num-heads 2 --scan.epochs 1
    --selflabel.epochs 1 --selflabel.threshold 0.3 --evaluate.kmeans-n-init 2)
python -m jobs.guard "$@"
exec ray job submit --working-dir . -- python -m rayscan demo --fleet.address auto "${few[@]}" "$@"
