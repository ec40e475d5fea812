"""A run as a service for new images: `rayscan serve RUN`. HTTP and replicas are in `fleet.service`.

bodies       the files and addresses of a request, or why it is refused
stores       reading addresses below the prefixes that are allowed
pictures     received files as the pixels of the run's network
model        pixels -> features and probabilities, as `rayscan predict` has them
clusters     names and edits of the run as they are now
known        the nearest images of the run
replica      all of these in one process
"""
