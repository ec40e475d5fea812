"""Every method on the digits of the demo, three seeds: SCAN, self-labelling, PMI, SeLa, k-means twice.

    python -m benchmarks.campaigns.experiments_digits [--window SECONDS] [--write docs/results] [--tiny]

About ten minutes a seed on two cores. Run the same command again until it says that all is done.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.campaign import Window
from benchmarks.campaigns.runs import arguments, publish, run_experiment
from rayscan.config import Recipe
from rayscan.data.digits import write_digits
from rayscan.recipes import by_name
from rayscan.storage import Place

NOTE = "1,498 train and 299 eval digits of 8x8 px, recipe `digits`; mean over three seeds."


def recipe(*, is_tiny: bool) -> Recipe:
    """The demo's; tiny: one epoch of everything."""
    base = by_name("digits")
    if not is_tiny:
        return base
    return replace(
        base,
        pretext=replace(base.pretext, epochs=1, optimizer=replace(base.pretext.optimizer, warmup_epochs=0.5)),
        scan=replace(base.scan, num_heads=2, head_epochs=2, epochs=1),
        selflabel=replace(base.selflabel, epochs=1),
        evaluate=replace(base.evaluate, kmeans_n_init=2),
    )


def main() -> None:
    """Run what is not done yet, as far as the window allows."""
    asked = arguments(__doc__, "runs/experiments_digits")
    digits = write_digits(Place(str(asked.out)).child("data"))
    options = ["--data", digits.train, "--labels", digits.labels, "--eval-data", digits.eval]
    options += ["--seeds", str(1 if asked.tiny else asked.seeds)]
    window = Window(asked.window)
    for name in asked.only or ("methods",):
        if not run_experiment(window, name, recipe(is_tiny=asked.tiny), asked.out, options):
            print(f"the window is over in {name}: run the same command again to go on")
            return
        if asked.write is not None and not asked.tiny:
            publish(asked.out, name, asked.write, "digits", NOTE)
    print("all is done")


if __name__ == "__main__":
    main()
