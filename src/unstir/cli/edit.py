"""`unstir edit`: paint a part of a picture anew, or around it."""

from __future__ import annotations

from .common import Arguments, DryRun, Json, Quiet, SettingsFile
from .drawing import Job

__all__ = ["edit"]


def edit(
    arguments: Arguments = None,
    config: SettingsFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Repaint a part of a picture with a model, or paint around it.

    What is white in mask= is painted anew; every other pixel keeps its bytes. extend=right:16 adds a border and
    paints it; strength=0.6 changes what is there instead of replacing it: with a mask there, without one all
    over. prompt= says what is to be there, to a model trained on captions. Pictures larger than the model are done
    in overlapping windows. n=8 uncertainty=1 shows what is left open. The result carries its recipe: unstir
    inspect FILE. All keys: unstir config edit

    \b
    Examples:
      unstir edit runs/photos in.png mask=mask.png out=edited.png
      unstir edit runs/photos in.png mask=mask.png label=cat n=8 uncertainty=1 out=cats.png
      unstir edit runs/captioned in.png mask=mask.png prompt="a red heart" negative=blue guidance=4
      unstir edit runs/photos in.png extend=left:8,right:8
      unstir edit runs/photos in.png strength=0.6 seed=3
    """
    job = Job.of("edit", arguments, config, dry_run, as_json, quiet)
    request = job.request

    from .. import load
    from ..pipeline import restoration

    pipe = load(job.model)
    image = job.picture(job.input, pipe)
    mask = None if request.mask is None else job.mask(image.shape[:2], "painted")
    wish = job.wish(pipe, request.strength)
    if restored := job.draw(restoration.edit(pipe, image, mask, request.extend, request.feather, wish)):
        job.report(restored, mask=request.mask)
