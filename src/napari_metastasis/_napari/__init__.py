"""The napari plugin: the only room that imports napari, magicgui and Qt. Forms and workers, no algorithm."""
