"""What a service counts of itself, in the text format that Prometheus reads."""

import bisect
from collections import Counter, defaultdict

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds


class Metrics:
    """Requests by route, method and status, and how long their answers took; gauges are what does not change."""

    def __init__(self, **gauges: int):
        self.gauges = gauges
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self.seconds: Counter[str] = Counter()

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts one request."""
        self.requests[route, method, status] += 1
        self.buckets[route][bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds[route] += seconds

    def text(self) -> str:
        """Everything, in the text exposition format 0.0.4.

        Source: https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        lines = ["# HELP sea_requests_total Requests answered.", "# TYPE sea_requests_total counter"]
        for (route, method, status), count in sorted(self.requests.items()):
            lines.append(f'sea_requests_total{{route="{route}",method="{method}",status="{status}"}} {count}')
        lines += ["# HELP sea_request_seconds Seconds to an answer.", "# TYPE sea_request_seconds histogram"]
        for route, buckets in sorted(self.buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'sea_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}')
            lines.append(f'sea_request_seconds_sum{{route="{route}"}} {self.seconds[route]:.6f}')
            lines.append(f'sea_request_seconds_count{{route="{route}"}} {total}')
        for name, value in self.gauges.items():
            lines += [f"# HELP sea_{name} Size of the catalogue.", f"# TYPE sea_{name} gauge", f"sea_{name} {value}"]
        return "\n".join(lines) + "\n"
