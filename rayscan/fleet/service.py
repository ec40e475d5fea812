"""A service on Ray Serve: a door that reads requests, and replicas behind it that answer them in batches.

service_door      HTTP, token, sizes; asks another replica where one dies
service_replica   a process that answers: decodes some requests while it computes others
service_batches   how requests come together
service_metrics   what is counted

Replicas come and go with the load. What answers is made by a function of the caller, since this room knows no
models.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ray import serve
from ray.serve.schema import ApplicationStatus

from rayscan.config.serve import ServeConfig
from rayscan.errors import FleetError
from rayscan.fleet.service_door import CALLS_PER_REPLICA, MOST_AT_ONCE, Door
from rayscan.fleet.service_replica import Replica
from rayscan.fleet.service_settings import Answering, ServiceSettings

NAME = "rayscan"
POLL_SECONDS = 0.2
DEATH = "HEALTH_CHECK_FAILED"
"""Why a deployment failed, in the words of Ray Serve: a replica that had answered does no more."""
HEAD = {"node:__internal_head__": 0.001}
"""The resource that only the head of a Ray cluster has."""
CHECKS_AT_ONCE = 16
"""Health checks a replica takes beside its calls."""


def application(make: Callable[[], Answering], settings: ServiceSettings) -> serve.Application:
    """The service as Ray Serve takes it.

    Args:
        make: Makes what answers, in the process of each replica; a function of a module, or a partial of one.
        settings: How it listens and grows.
    """
    config = settings.config
    scaling = {
        "min_replicas": config.min_replicas,
        "max_replicas": config.max_replicas,
        "target_ongoing_requests": CALLS_PER_REPLICA,
    }
    replicas = serve.deployment(
        name="replicas",
        autoscaling_config=scaling,
        max_ongoing_requests=CALLS_PER_REPLICA * config.max_replicas + CHECKS_AT_ONCE,
        ray_actor_options={
            "num_cpus": float(config.threads),
            "num_gpus": config.gpus,
            # Products of a few rows are quickest in one thread: others would spin beside the network's.
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},
        },
        health_check_period_s=2.0,
    )(Replica)
    door = serve.deployment(
        name="door",
        num_replicas=1,
        max_ongoing_requests=MOST_AT_ONCE,
        ray_actor_options={"num_cpus": 0, "resources": HEAD if settings.listens else {}},
    )(Door)
    return door.bind(replicas.bind(make, config), settings)


def start(app: serve.Application, config: ServeConfig) -> None:
    """Start a service that listens itself; Ray must have been joined or started.

    Args:
        app: From `application`.
        config: Where it listens.

    Raises:
        FleetError: it cannot be started, as where the address is taken.
    """
    # no proxies; Ray Serve names the address in its log all the same
    address = {"host": config.host, "port": config.port}
    serve.start(proxy_location="Disabled", http_options={**address, "location": "NoServer"})
    try:
        serve.run(app, name=NAME, route_prefix="/")
    except RuntimeError as error:
        if _comes_back():
            return
        raise FleetError(
            "the service cannot be started",
            expected="a free address, and CPUs for --serve.min-replicas of --serve.threads each",
            got=error,
            where=f"http://{config.host}:{config.port}",
            fix="see the line above; --serve.port takes another port",
        ) from error


def _comes_back() -> bool:
    """Wait for a service one of whose replicas died after it had answered, while others still loaded.

    Ray Serve calls that a deployment that failed, though it starts another replica, and answers in the end.
    Replicas that cannot be started are given up after some tries, as Ray Serve does.
    """
    while (found := serve.status().applications.get(NAME)) is not None:
        if found.status is ApplicationStatus.RUNNING:
            return True
        causes = {one.status_trigger for one in found.deployments.values()}
        if found.status is ApplicationStatus.DEPLOY_FAILED and DEATH not in causes:
            return False
        time.sleep(POLL_SECONDS)
    return False


def stop() -> None:
    """End the service; the Ray it ran on stays."""
    serve.shutdown()
