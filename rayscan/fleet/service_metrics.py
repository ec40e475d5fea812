"""Numbers of a service in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter


class Counts:
    """Requests, images and seconds since the start."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._requests: Counter[int] = Counter()
        self._images = 0
        self._seconds = 0.0
        self.retried = 0
        """Requests that were asked again because a replica died before it had answered."""

    def add(self, status: int, images: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests[status] += 1
        self._images += images
        self._seconds += seconds

    def as_text(self) -> str:
        """All numbers."""
        by_status = [
            f'rayscan_requests_total{{status="{status}"}} {count}'
            for status, count in sorted(self._requests.items())
        ]
        lines = [
            "# TYPE rayscan_requests_total counter",
            *by_status,
            "# TYPE rayscan_images_total counter",
            f"rayscan_images_total {self._images}",
            "# TYPE rayscan_request_seconds summary",
            f"rayscan_request_seconds_sum {self._seconds:.6f}",
            f"rayscan_request_seconds_count {sum(self._requests.values())}",
            "# TYPE rayscan_requests_retried_total counter",
            f"rayscan_requests_retried_total {self.retried}",
        ]
        return "\n".join(lines) + "\n"
