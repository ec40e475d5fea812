"""SCAN Table 2: pretext tasks, clustered by k-means and by SCAN with self-labelling."""

from rayscan.experiments.base import Experiment, Row

TASKS = (
    ("RotNet", "rotnet", "27.1 +- 2.1", "74.3 +- 3.9"),
    ("Inst. discr. (NCE)", "instdisc", "52.0 +- 4.6", "83.5 +- 4.1"),
    ("Inst. discr. (SimCLR)", "simclr", "65.9 +- 5.7", "87.6 +- 0.4"),
)


def _settings(method: str) -> dict[str, str]:
    """RotNet has no projection to mine in."""
    return {"pretext.method": method} | ({"embed.space": "backbone"} if method == "rotnet" else {})


EXPERIMENT = Experiment(
    name="scan-table2",
    title="Ablation of the pretext task",
    source="SCAN, arXiv 2005.12320, Table 2",
    rows=tuple(
        row
        for title, method, kmeans, scan in TASKS
        for row in (
            Row(
                f"{title}, K-means",
                _settings(method),
                reads="kmeans",
                paper={"cifar10": kmeans},
            ),
            Row(f"{title}, SCAN", _settings(method), paper={"cifar10": scan}),
        )
    ),
)
