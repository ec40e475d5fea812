"""Export as ONNX: network, rule and normalisation in one graph, for programs without rayscan or torch.

OUT/
  model.onnx            images uint8 [N, S, S, 3] -> probabilities float32 [N, C], cluster int64 [N]
  preprocessing.json    how a picture becomes such a square; mean and std are in the graph
  clusters.json         number and name of each column; the model has them as metadata too

Resizing is not in the graph: ONNX's Resize does not round as Pillow and torch do, and the pictures of a batch
differ in size. Whoever runs the model cuts the square, as preprocessing.json says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayscan.assignments import WASTE
from rayscan.config import ImagesConfig, Recipe
from rayscan.config.preprocessing import Preprocessing
from rayscan.edits.applying import Edited, mapped
from rayscan.edits.operations import WASTE_NAME
from rayscan.errors import ConfigError
from rayscan.exports.whole_folder import whole_folder
from rayscan.run import Run
from rayscan.training.pictures import images_of, preprocessing_in

OPSET = 20
LARGEST = 1_500_000_000
"""Bytes of weights that go into the file itself; more lie beside it, as a protobuf ends at 2 GB."""


def export_onnx(run: Run, out: str) -> str:
    """The network and its clusters as an ONNX model: pictures in, probabilities out.

    Args:
        run: A run whose features one network makes.
        out: The folder.

    Returns:
        A line that says what was written.

    Raises:
        ArtifactError: the run has no model, or it cannot be read.
        ConfigError: the features are those of several networks or of files, or ONNX is not installed.
    """
    _require_installed()
    from rayscan.exports.onnx_model import edited_numbers, exported_model, model_stage
    from rayscan.stages.rules import reads_features

    recipe = run.recipe
    _require_one_network(recipe)
    pretext, model = run.artifact("pretext"), run.artifact(model_stage(recipe))
    images = images_of(recipe, pretext)
    state = Edited.read(run)
    edited = mapped(run, state.original, state.current, state.history)
    now = [edited.now(number) for number in range(recipe.clusters_formed)]
    module = exported_model(recipe, pretext, model, images, now)
    names = {**edited.names, WASTE: WASTE_NAME}
    cut = preprocessing_of(images, preprocessing_in(pretext) if reads_features(model) else None)
    clusters = [
        {"cluster": number, "name": names.get(number, f"cluster {number}")} for number in edited_numbers(now)
    ]
    about = {
        "clusters": clusters,
        "preprocessing": cut,
        "features": list(recipe.features),
        "method": recipe.method,
        "licence": pretext.facts.get("licence", ""),
    }
    with whole_folder(out, "onnx", {"assign": run.artifact("assign").identity}) as folder:
        write_model(module, images.size_px, folder / "model.onnx", about)
        for name, value in (("preprocessing", cut), ("clusters", clusters)):
            (folder / f"{name}.json").write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
    size = images.size_px
    return f"uint8 [N, {size}, {size}, 3] -> probabilities of {len(clusters)} clusters: {out}"


def preprocessing_of(images: ImagesConfig, wanted: Preprocessing | None) -> dict[str, Any]:
    """How a picture becomes the square that the graph takes, in plain values.

    Args:
        images: Settings of the run, as the network wants them.
        wanted: How the authors of a pretrained network make it, if the run makes it so (`data.pictures`).
    """
    from rayscan.data.central_crop import short_side
    from rayscan.data.geometry import EVALUATION_SHARE

    size = images.size_px
    takes = {"input": "images", "dtype": "uint8", "shape": ["N", size, size, 3], "colors": "RGB, sRGB"}
    in_graph = {"scale": 1 / 255, "mean": list(images.mean), "std": list(images.std)}
    if wanted is not None:
        cut: dict[str, Any] = {
            "short_side_px": short_side(wanted),
            "unless": f"a picture whose short side has at most {size} px: that becomes {size} px",
            "interpolation": wanted.interpolation,
            "is_antialiased": True,
            "then": f"the central {size} x {size} px",
        }
    else:
        cut = {
            "canvas_px": images.canvas_px,
            "square": f"central, of {EVALUATION_SHARE} of the short side, at least {size} px where there are",
            "size_px": size,
            "interpolation": "bilinear",
            "is_antialiased": True,
        }
    return {**takes, "to_do_before": cut, "in_graph": in_graph}


def write_model(module: Any, size: int, path: Path, about: Mapping[str, Any]) -> None:
    """Trace the module for any number of images and write it with what to know of it."""
    import onnx
    import torch

    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    is_large = sum(t.nbytes for t in module.state_dict().values()) > LARGEST
    torch.onnx.export(
        module,
        (example,),
        path,
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["probabilities", "cluster"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        external_data=is_large,
        verbose=False,
    )
    model = onnx.load(str(path), load_external_data=False)
    told = {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
    onnx.helper.set_model_props(model, told)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))


def _require_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "ONNX is not installed",
            expected="the packages onnx and onnxscript",
            got=error,
            where="--to onnx",
            fix="pip install 'rayscan[onnx]'",
        ) from error


def _require_one_network(recipe: Recipe) -> None:
    """Refuse features that are no function of the pixels, or of several networks, by name."""
    spaces = recipe.spaces
    if len(spaces) == 1 and spaces[0].has_net:
        return
    files = [space.spec for space in spaces if not space.has_net]
    raise ConfigError(
        "the features of this run are not those of one network",
        expected="one of own, a name of the catalog, timm/NAME or checkpoint:PATH",
        got=", ".join(space.spec for space in spaces),
        where="features",
        fix=f"{', '.join(files)} cannot be computed from pixels" if files else "run with one of them",
    )
