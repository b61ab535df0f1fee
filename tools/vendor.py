"""Make src/unstir/studio/static/vendor/ from npm packages: `python tools/vendor.py` (needs npm).

The studio's page has no build step: the browser loads these files as they lie. Its Content-Security-Policy allows no
inline import map, so imports by package name become relative ones here.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

OUT = Path(__file__).parents[1] / "src/unstir/studio/static/vendor"

FILES = {
    "preact@11.2.0": {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"},
    "htm@3.1.1": {"dist/htm.mjs": "htm.js"},
    "@preact/signals-core@1.14.5": {"dist/signals-core.mjs": "signals-core.js"},
    "@preact/signals@2.11.4": {"dist/signals.mjs": "signals.js"},
    "uplot@1.6.32": {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"},
}

RELATIVE = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def pack(package: str, folder: Path) -> tarfile.TarFile:
    told = subprocess.run(
        ["npm", "pack", "--json", package], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    (about,) = json.loads(told)
    return tarfile.open(folder / about["filename"])


def read(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(f"package/{name}")
    assert file is not None
    return file.read().decode()


def page(text: str) -> str:
    """The module with relative imports, and without the line that points to a map of its source."""
    for name, path in RELATIVE.items():
        text = text.replace(f'from"{name}"', f'from"{path}"')
    return text.partition("//# sourceMappingURL")[0].rstrip() + "\n"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    licences = []
    with tempfile.TemporaryDirectory() as folder:
        for package, files in FILES.items():
            with pack(package, Path(folder)) as tar:
                for source, name in files.items():
                    (OUT / name).write_text(page(read(tar, source)))
                licences.append(f"{package}: {', '.join(files.values())}\n\n{read(tar, 'LICENSE').strip()}\n")
    (OUT / "LICENSES.txt").write_text(f"\n{'-' * 100}\n\n".join(licences))
    print(f"{OUT}: {', '.join(sorted(path.name for path in OUT.iterdir()))}")


if __name__ == "__main__":
    main()
