# What every pod of jobs/kuberay/rayjob.yaml runs: the locked packages and rayscan's wheel, nothing else.
#   pip wheel --no-deps --wheel-dir dist . && docker build -t REGISTRY/rayscan:0.1.0 . && docker push REGISTRY/rayscan:0.1.0
FROM python:3.12-slim-bookworm

# wget and bash: the probes of KubeRay call them. procps: Ray looks at processes.
RUN apt-get update && apt-get install --yes --no-install-recommends wget bash procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray

COPY requirements.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock
COPY dist/rayscan-*.whl /tmp/dist/
RUN pip install --no-cache-dir --no-deps /tmp/dist/rayscan-*.whl && rm -r /tmp/dist /tmp/requirements.lock

ENV RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
USER 1000
WORKDIR /home/ray
