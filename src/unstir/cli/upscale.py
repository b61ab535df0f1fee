"""`unstir upscale`: a picture with more pixels."""

from __future__ import annotations

from .common import Arguments, DryRun, Json, Quiet, SettingsFile
from .drawing import Job

__all__ = ["upscale"]


def upscale(
    arguments: Arguments = None,
    config: SettingsFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a picture larger, with the detail that a model expects.

    The result has scale= times the height and width, also far beyond the model's own size: it is done in
    overlapping windows. Made small again it is the picture given, as far as bytes allow; |A x - y| says how nearly.
    A model trained with task=upscale does it directly, any other is guided. n=8 uncertainty=1 shows what is left open.
    The result carries its recipe: unstir inspect FILE. All keys: unstir config upscale

    \b
    Examples:
      unstir upscale runs/photos small.png scale=4 out=large.png
      unstir upscale runs/photos small.png scale=4 tile=32 overlap=8
      unstir upscale runs/captioned small.png scale=2 prompt="a face with glasses"
      unstir upscale runs/photos small.png scale=2 n=8 uncertainty=1 reference=true.png
    """
    job = Job.of("upscale", arguments, config, dry_run, as_json, quiet)
    request = job.request

    from .. import load
    from ..pipeline import restoration

    pipe = load(job.model)
    image = job.picture(job.input, pipe)
    reference = None if request.reference is None else job.picture(request.reference, pipe, "reference")
    drawing = restoration.upscale(pipe, image, request.scale, request.kernel, reference, job.wish(pipe))
    if restored := job.draw(drawing):
        job.report(restored)
