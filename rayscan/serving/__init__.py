"""A run as a service for new images: `rayscan serve RUN`. HTTP and replicas are in `fleet.service`.

bodies       the files and addresses of a request, or why it is refused
stores       reading addresses below the prefixes that are allowed
pictures     received files as the pixels of one of the run's networks
networks     pixels -> the features that the run stores
model        files -> features and probabilities, as `rayscan predict` has them
clusters     names and edits of the run as they are now
known        the nearest images of the run
replica      all of these in one process
"""
