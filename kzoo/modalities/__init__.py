"""The kinds of data that kzoo itself knows: images and text."""
