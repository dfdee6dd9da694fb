"""``python -m napari_metastasis``: the command line, where its script is not on the path."""

from __future__ import annotations

from napari_metastasis.cli import main

if __name__ == "__main__":
    main()
